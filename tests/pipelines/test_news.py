"""Who rings for a run, and that a lost or doubled message only costs time."""

from __future__ import annotations

import pytest

from mlxplatform.core.models import AuditEvent
from pipelines import services
from pipelines.models import PipelineRun
from tests.pipelines.lives import (
    AFTER,
    data,
    gate,
    go,
    job,
    model,
    pipeline,
    started,
    states,
    step,
    succeeds,
)
from training import services as jobs
from training.models import Job

pytestmark = pytest.mark.django_db


def test_a_lost_message_only_costs_time(user) -> None:
    made = pipeline(user, step("sft"), step("dpo", uses=AFTER))
    run = services.start(user, made, {"model": str(model().pk), "data": str(data().pk)})
    assert states(run) == {"sft": "waiting", "dpo": "waiting"}
    services.advance_all()
    succeeds(job(run, "sft"))
    services.advance_all()
    succeeds(job(run, "dpo"))
    services.advance_all()
    assert PipelineRun.objects.get(pk=run.pk).state == "succeeded"


def test_whoever_has_news_rings(user, monkeypatch, django_capture_on_commit_callbacks) -> None:
    rung: list[str] = []
    monkeypatch.setattr("pipelines.receivers.advance_run", rung.append)
    with django_capture_on_commit_callbacks(execute=True):
        run = started(user, pipeline(user, step("sft"), step("ask", "approve", after=["sft"])))
    assert set(rung) == {str(run.pk)}, "the start, and the job that was queued"
    for act in (
        lambda: jobs.request_stop(user, job(run, "sft")),
        lambda: jobs.resume(user, job(run, "sft")),
        lambda: services.pause(user, run),
        lambda: services.resume(user, run),
        lambda: services.cancel(user, run),
    ):
        rung.clear()
        with django_capture_on_commit_callbacks(execute=True):
            act()
        assert set(rung) == {str(run.pk)}


def test_a_start_can_be_doubled(user) -> None:
    made, chosen = pipeline(user, step("sft")), {"model": str(model().pk), "data": str(data().pk)}
    one = services.start(user, made, chosen, idempotency_key="k")
    assert services.start(user, made, chosen, idempotency_key="k") == one
    assert services.start(user, made, chosen) != one
    assert [run.number for run in PipelineRun.objects.order_by("number")] == [1, 2]
    assert AuditEvent.objects.filter(action="pipeline.run").count() == 2


def test_a_run_keeps_the_definition_it_began_with(user) -> None:
    made = pipeline(user, step("sft"), gate("good", "val_loss < 2", uses={"metrics": "sft.metrics"}))
    run = started(user, made)
    changed = {"name": "P2", "steps": [gate("other", "1 < 2")]}
    services.change(user, made, services.checked(changed))
    succeeds(job(run, "sft"), val_loss=1.0)
    run = go(run)
    assert run.state == "succeeded" and states(run) == {"sft": "succeeded", "good": "succeeded"}


def test_progress_counts_what_runs_by_its_share(user) -> None:
    run = started(user, pipeline(user, step("sft"), step("dpo", uses=AFTER)))
    Job.objects.filter(pk=job(run, "sft").pk).update(progress=0.5)
    assert run.progress == 0.25
    succeeds(job(run, "sft"))
    assert go(run).progress == 0.5
