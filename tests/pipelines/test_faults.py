"""What can go wrong with a run: each fault ends its step with a sentence, and no other run."""

from __future__ import annotations

from typing import Any

import pytest

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.env import env
from pipelines import services
from pipelines.models import PipelineRun, PipelineVersion, StepRun
from registry.models import ModelVersion
from registry.services import delete as delete_model
from tests.pipelines.lives import (
    AFTER,
    at,
    gate,
    go,
    job,
    pipeline,
    started,
    states,
    step,
    succeeds,
)
from training import services as jobs
from training.models import Job

pytestmark = pytest.mark.django_db


def test_a_full_queue_lets_a_step_wait(user, monkeypatch) -> None:
    made = pipeline(user, step("sft"), gate("other", "1 < 2"))
    monkeypatch.setattr("training.services.queue.env", lambda: env().model_copy(update={"max_queued": 0}))
    run = started(user, made)
    assert states(run) == {"sft": "waiting", "other": "succeeded"} and run.state == "running"
    assert at(run, "sft").message == "Waits: 0 jobs are waiting already."
    assert Job.objects.count() == 0 and at(run, "sft").digest == ""
    monkeypatch.undo()
    services.advance_all()
    assert states(run)["sft"] == "running" and at(run, "sft").message == ""


def test_a_run_whose_owner_is_gone_fails_in_words(user) -> None:
    run = started(user, pipeline(user, step("sft"), step("dpo", uses=AFTER)))
    succeeds(job(run, "sft"))
    Job.objects.update(owner=None)
    user.delete()
    run = go(PipelineRun.objects.get(pk=run.pk))
    assert run.state == "failed" and run.owner is None
    assert (
        run.message
        == "'dpo' failed: The person who started the run is gone. Start it anew; results that are there are taken."
    )


def test_a_run_whose_owner_may_only_look_now_fails_in_words(user) -> None:
    run = started(user, pipeline(user, step("sft"), step("dpo", uses=AFTER)))
    succeeds(job(run, "sft"))
    user.groups.set([make_user("look", Role.VIEWER).groups.get()])
    run = go(run)
    assert run.state == "failed" and "This needs the role editor." in run.message
    assert states(run) == {"sft": "succeeded", "dpo": "failed"} and Job.objects.count() == 1


def test_a_model_that_was_deleted_in_between_fails_the_next_step(user) -> None:
    run = started(user, pipeline(user, step("sft"), step("dpo", uses=AFTER)))
    one = succeeds(job(run, "sft"))
    delete_model(user, ModelVersion.objects.get(job_id=one.pk).model)
    run = go(run)
    assert (run.state, run.message) == (
        "failed", "'dpo' failed: sft.model is not there any more. Restore it, or start anew.",
    )  # fmt: skip


def test_what_a_job_made_is_gone_before_anybody_looked(user) -> None:
    run = started(user, pipeline(user, step("sft"), step("dpo", uses=AFTER)))
    one = succeeds(job(run, "sft"))
    ModelVersion.objects.filter(job_id=one.pk).delete()
    run = go(run)
    assert run.state == "failed" and run.message == "'sft' failed: What the step made is not there any more."
    assert go(run).state == "failed", "and that stays so"


def test_a_deleted_job_fails_its_step(user) -> None:
    run = started(user, pipeline(user, step("sft")))
    jobs.delete(user, job(run, "sft"))
    run = go(run)
    assert (run.state, run.message) == ("failed", "'sft' failed: The step's job was deleted.")
    other = started(user, pipeline(user, step("sft")))
    Job.objects.filter(pk=job(other, "sft").pk).delete()
    assert go(other).state == "failed"


def test_a_job_that_was_stopped_by_hand_fails_its_step(user) -> None:
    run = started(user, pipeline(user, step("sft"), step("dpo", uses=AFTER)))
    one = jobs.request_stop(user, job(run, "sft"))
    run = go(run)
    assert (run.state, run.message) == ("failed", f"'sft' failed: Job #{one.number} was stopped.")
    assert states(run) == {"sft": "failed", "dpo": "skipped"}


def test_a_kind_that_was_taken_out_of_the_catalog_fails_its_step(user) -> None:
    run = started(user, pipeline(user, step("sft"), gate("later", "1 < 2", after=["sft"])))
    version = PipelineVersion.objects.get(pk=run.version_id)
    version.body["steps"][1]["kind"] = "forgotten"
    PipelineVersion.objects.filter(pk=version.pk).update(body=version.body)
    StepRun.objects.filter(run=run, name="later").update(kind="forgotten")
    succeeds(job(run, "sft"))
    run = go(run)
    assert (run.state, run.message) == (
        "failed", "'later' failed: There is no kind of step 'forgotten' any more. Change the pipeline.",
    )  # fmt: skip


def test_settings_that_the_engine_does_not_know_any_more_fail_the_step_with_all_problems(user) -> None:
    run = started(user, pipeline(user, step("sft"), step("dpo", uses=AFTER)))
    version = PipelineVersion.objects.get(pk=run.version_id)
    version.body["steps"][1]["settings"] = {"iters": -1, "gone": 1}
    PipelineVersion.objects.filter(pk=version.pk).update(body=version.body)
    succeeds(job(run, "sft"))
    run = go(run)
    assert run.state == "failed" and states(run)["dpo"] == "failed"
    assert {tuple(one["loc"]) for one in at(run, "dpo").details["problems"]} == {("iters",), ("gone",)}


def test_a_fault_in_one_run_does_not_hold_up_the_others(user, monkeypatch, caplog) -> None:
    made = pipeline(user, step("sft"))
    good, bad = started(user, made), started(user, made)
    succeeds(job(good, "sft"))
    real = services.advance.__globals__["_round"]

    def round_(run_id: Any) -> bool:
        if run_id == bad.pk:
            raise RuntimeError("a fault of ours")
        return real(run_id)

    monkeypatch.setitem(services.advance.__globals__, "_round", round_)
    services.advance_all()
    assert PipelineRun.objects.get(pk=good.pk).state == "succeeded"
    assert str(bad.pk) in caplog.text
