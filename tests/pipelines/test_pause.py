"""Pause and resume: nothing begins meanwhile, nothing is lost, and nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest

from mlxplatform.core.errors import Conflict
from pipelines import services
from pipelines.models import PipelineRun
from tests.pipelines.lives import (
    data,
    fails,
    fresh,
    gate,
    go,
    job,
    model,
    pipeline,
    runs,
    saves,
    started,
    states,
    step,
    succeeds,
)
from training.models import Job

pytestmark = pytest.mark.django_db


def test_pause_saves_and_resume_goes_on_with_the_same_job(user, run) -> None:
    one = runs(job(run, "sft"))
    services.pause(user, run)
    saves(one)
    run = go(run)
    assert run.state == "paused" and states(run) == {"sft": "running", "dpo": "waiting"}
    services.resume(user, run)
    one.refresh_from_db()
    assert one.state == "queued" and go(run).state == "running"
    succeeds(one)
    assert go(run).state == "running" and states(run) == {"sft": "succeeded", "dpo": "running"}


def test_pause_of_a_queued_job_does_not_fail_the_run(user, run) -> None:
    services.pause(user, run)
    run = go(run)
    assert run.state == "paused" and states(run) == {"sft": "running", "dpo": "waiting"}
    assert job(run, "sft").state == "stopped", "out of the queue: nothing begins"
    services.resume(user, run)
    assert job(run, "sft").state == "queued" and go(run).state == "running"


def test_a_paused_run_begins_nothing(user, run) -> None:
    one = runs(job(run, "sft"))
    services.pause(user, run)
    succeeds(one)
    run = go(run)
    assert run.state == "paused" and states(run) == {"sft": "succeeded", "dpo": "waiting"}
    services.resume(user, run)
    go(run)
    assert states(run)["dpo"] == "running"


def test_a_paused_run_may_fail_and_end(user, run) -> None:
    one = runs(job(run, "sft"))
    services.pause(user, run)
    fails(one)
    assert go(run).state == "failed"


def test_resume_waits_for_a_job_that_still_saves(user, run) -> None:
    one = runs(job(run, "sft"))
    services.pause(user, run)
    with pytest.raises(Conflict) as refused:
        services.resume(user, run)
    assert refused.value.code == "run.pausing" and fresh(run).state == "paused"
    saves(one)
    assert services.resume(user, run).state == "running"


def test_a_pause_between_look_and_begin_wins(user, monkeypatch) -> None:
    run = services.start(user, pipeline(user, step("sft")), {"model": str(model().pk), "data": str(data().pk)})
    module = services.advance.__globals__
    real = module["_begin"]

    def late(*arguments: Any) -> bool:
        services.pause(user, PipelineRun.objects.get(pk=run.pk))
        return real(*arguments)

    monkeypatch.setitem(module, "_begin", late)
    assert go(run).state == "paused"
    assert states(run) == {"sft": "waiting"} and not Job.objects.exists()


@pytest.mark.parametrize("act", [services.pause, services.resume, services.cancel])
def test_nothing_of_this_suits_a_run_that_has_ended(user, act) -> None:
    run = started(user, pipeline(user, gate("g", "1 < 2"), inputs={}))
    with pytest.raises(Conflict):
        act(user, run)
    assert fresh(run).state == "succeeded"


def test_pausing_twice_and_resuming_what_runs_is_refused(user, run) -> None:
    with pytest.raises(Conflict):
        services.resume(user, run)
    services.pause(user, run)
    with pytest.raises(Conflict):
        services.pause(user, run)


def test_a_run_that_is_being_cancelled_is_not_paused(user, run) -> None:
    runs(job(run, "sft"))
    services.cancel(user, run)
    with pytest.raises(Conflict) as refused:
        services.pause(user, run)
    assert refused.value.code == "run.ending"
