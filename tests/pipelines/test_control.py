"""Cancel and try again: each in every state, and what a job's own page does to its run."""

from __future__ import annotations

from typing import Any

import pytest

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.env import env
from mlxplatform.core.errors import Conflict, Forbidden, TooMuch
from mlxplatform.core.models import AuditEvent
from pipelines import services
from tests.pipelines.lives import (
    at,
    fails,
    fresh,
    gate,
    go,
    job,
    pipeline,
    runs,
    saves,
    started,
    states,
    step,
    succeeds,
)
from training import services as jobs
from training.models import Job

pytestmark = pytest.mark.django_db


# Cancel


def test_cancel_of_a_queued_job_ends_at_once(user, run) -> None:
    services.cancel(user, run)
    run = go(run)
    assert (run.state, run.message) == ("cancelled", "Cancelled.") and run.ended_at is not None
    assert states(run) == {"sft": "cancelled", "dpo": "cancelled"}
    assert job(run, "sft").state == "stopped" and at(run, "sft").message == "Stopped with the run."


def test_cancel_of_a_running_job_waits_for_its_checkpoint(user, run) -> None:
    one = runs(job(run, "sft"))
    services.cancel(user, run)
    run = go(run)
    assert run.state == "running" and states(run) == {"sft": "running", "dpo": "cancelled"}
    saves(one)
    assert go(run).state == "cancelled" and states(run) == {"sft": "cancelled", "dpo": "cancelled"}


def test_cancel_while_the_last_job_ends_well_keeps_what_it_made(user) -> None:
    run = started(user, pipeline(user, step("sft")))
    one = runs(job(run, "sft"))
    services.cancel(user, run)
    succeeds(one)
    assert go(run).state == "succeeded" and at(run, "sft").outputs["model"]


def test_cancel_while_the_job_fails(user, run) -> None:
    one = runs(job(run, "sft"))
    services.cancel(user, run)
    fails(one)
    assert go(run).state == "cancelled" and states(run) == {"sft": "failed", "dpo": "cancelled"}


def test_cancel_at_an_approval(user) -> None:
    run = started(user, pipeline(user, step("ask", "approve"), gate("then", "1 < 2", after=["ask"])))
    services.cancel(user, run)
    run = go(run)
    assert run.state == "cancelled" and states(run) == {"ask": "cancelled", "then": "cancelled"}


def test_cancel_of_a_paused_run(user, run) -> None:
    one = runs(job(run, "sft"))
    services.pause(user, run)
    saves(one)
    services.cancel(user, go(run))
    assert go(run).state == "cancelled" and at(run, "sft").message == "Cancelled while its job was paused."


def test_cancel_of_a_run_that_was_paused_in_the_queue(user, run) -> None:
    services.pause(user, run)
    services.cancel(user, go(run))
    assert go(run).state == "cancelled" and states(run) == {"sft": "cancelled", "dpo": "cancelled"}


def test_cancel_twice_is_harmless_and_after_the_end_refused(user, run) -> None:
    services.cancel(user, run)
    asked = fresh(run).cancel_requested_at
    assert services.cancel(user, run).cancel_requested_at == asked
    run = go(run)
    assert services.cancel(user, run).state == "cancelled"
    ended = started(user, pipeline(user, gate("g", "1 < 2"), inputs={}))
    with pytest.raises(Conflict) as refused:
        services.cancel(user, ended)
    assert refused.value.code == "run.ended"
    assert AuditEvent.objects.filter(action="run.cancel").count() == 1


def test_cancel_by_another_when_the_owner_is_gone(user, run) -> None:
    one = runs(job(run, "sft"))
    user.delete()
    services.cancel(make_user("other", Role.EDITOR), fresh(run))
    run = go(run)
    one.refresh_from_db()
    assert one.stop_requested_at is not None
    saves(one)
    assert go(run).state == "cancelled"


def test_a_job_that_is_resumed_while_its_run_is_cancelled_is_stopped_again(user, run) -> None:
    one = runs(job(run, "sft"))
    services.cancel(user, run)
    saves(one)
    jobs.resume(user, one)
    run = go(run)
    one.refresh_from_db()
    assert one.state == "stopped" and go(run).state == "cancelled"


# Try again, and the job's own page


def test_retry_of_a_failed_step_resumes_the_same_job(user, run) -> None:
    one = fails(job(run, "sft"))
    run = go(run)
    assert run.state == "failed" and states(run) == {"sft": "failed", "dpo": "skipped"}
    services.retry(user, at(run, "sft"))
    run = go(run)
    assert (run.state, run.message, run.ended_at) == ("running", "", None)
    assert states(run) == {"sft": "running", "dpo": "waiting"}
    assert job(run, "sft") == one and job(run, "sft").state == "queued" and at(run, "sft").message == ""
    succeeds(job(run, "sft"))
    run = go(run)
    succeeds(job(run, "dpo"))
    assert go(run).state == "succeeded" and Job.objects.count() == 2


def test_retry_of_a_step_without_a_job_begins_it_anew(user) -> None:
    ask = step("ask", "approve")
    run = started(user, pipeline(user, ask, gate("then", "1 < 2", after=["ask"]), inputs={}))
    services.reject(user, at(run, "ask"), at(run, "ask").digest)
    run = go(run)
    assert run.state == "failed" and states(run) == {"ask": "failed", "then": "skipped"}
    services.retry(user, at(run, "ask"))
    run = go(run)
    assert states(run) == {"ask": "approval", "then": "waiting"} and at(run, "ask").tries == 1


def test_retry_after_a_deleted_job_makes_another(user, run) -> None:
    one = job(run, "sft")
    jobs.delete(user, one)
    run = go(run)
    services.retry(user, at(run, "sft"))
    go(run)
    assert job(run, "sft") != one and states(run)["sft"] == "running"


def test_retry_of_a_cancelled_run_goes_on_from_the_checkpoint(user, run) -> None:
    one = runs(job(run, "sft"))
    services.cancel(user, run)
    saves(one)
    run = go(run)
    services.retry(user, at(run, "sft"))
    run = go(run)
    assert run.state == "running" and states(run) == {"sft": "running", "dpo": "waiting"}
    assert job(run, "sft") == one and job(run, "sft").state == "queued" and run.cancel_requested_at is None


def test_retry_beside_a_branch_that_still_runs(user) -> None:
    made = pipeline(user, step("a"), step("b", settings={"iters": 5}),
                    step("c", uses={"model": "a.model", "data": "inputs.data"}))  # fmt: skip
    run = started(user, made)
    fails(job(run, "a"))
    run = go(run)
    assert run.state == "running" and states(run) == {"a": "failed", "b": "running", "c": "skipped"}
    services.retry(user, at(run, "a"))
    assert states(run) == {"a": "running", "b": "running", "c": "waiting"}


def test_retry_needs_a_step_that_failed(user, run) -> None:
    with pytest.raises(Conflict) as refused:
        services.retry(user, at(run, "sft"))
    assert refused.value.code == "step.not_failed"
    services.pause(user, run)
    with pytest.raises(Conflict) as refused:
        services.retry(user, at(run, "sft"))
    assert refused.value.code == "run.not_failed"
    ended = started(user, pipeline(user, gate("g", "1 > 2", on_failure="go_on"), inputs={}))
    with pytest.raises(Conflict) as refused:
        services.retry(user, at(ended, "g"))
    assert refused.value.code == "run.not_failed" and fresh(ended).state == "succeeded"


def test_retry_with_a_full_queue_changes_nothing(user, run, monkeypatch) -> None:
    fails(job(run, "sft"))
    run = go(run)
    monkeypatch.setattr("training.services.queue.env", lambda: env().model_copy(update={"max_queued": 0}))
    with pytest.raises(TooMuch):
        services.retry(user, at(run, "sft"))
    assert fresh(run).state == "failed" and states(run) == {"sft": "failed", "dpo": "skipped"}


@pytest.mark.parametrize("late", ["_skip", "_close"])
def test_retry_between_look_and_end_wins(user, run, monkeypatch, late: str) -> None:
    module = services.advance.__globals__
    real, fast = module[late], []

    def after_a_retry(*arguments: Any) -> bool:
        if not fast:
            fast.append(services.retry(user, at(run, "sft")))
        return real(*arguments)

    one = fails(job(run, "sft"))
    monkeypatch.setitem(module, late, after_a_retry)
    run = go(run)
    assert fast and run.state == "running" and states(run) == {"sft": "running", "dpo": "waiting"}
    succeeds(one)
    go(run)
    assert states(run) == {"sft": "succeeded", "dpo": "running"}


def test_a_job_resumed_from_its_own_page_brings_the_run_back(user, run) -> None:
    one = fails(job(run, "sft"))
    run = go(run)
    jobs.resume(user, one)
    run = go(run)
    assert (run.state, run.message, run.ended_at) == ("running", "", None)
    assert states(run) == {"sft": "running", "dpo": "waiting"}, "what was not reached may be reached now"
    succeeds(one)
    run = go(run)
    succeeds(job(run, "dpo"))
    assert go(run).state == "succeeded"


def test_the_sweep_finds_a_job_that_was_resumed_whatever_became_of_the_message(user, run) -> None:
    one = fails(job(run, "sft"))
    run = go(run)
    services.advance_all()
    assert fresh(run).state == "failed"
    jobs.resume(user, one)
    succeeds(one)
    services.advance_all()
    assert fresh(run).state == "running" and states(run) == {"sft": "succeeded", "dpo": "running"}


def test_a_job_paused_on_its_own_page_keeps_its_step(user, run) -> None:
    one = runs(job(run, "sft"))
    jobs.request_pause(user, one)
    saves(one)
    run = go(run)
    assert run.state == "running" and states(run) == {"sft": "running", "dpo": "waiting"}
    jobs.resume(user, one)
    succeeds(one)
    go(run)
    assert states(run)["sft"] == "succeeded"


def test_a_run_that_succeeded_stays_so_whatever_becomes_of_a_tolerated_job(user) -> None:
    run = started(user, pipeline(user, step("sft", on_failure="go_on"), gate("g", "1 < 2")))
    one = fails(job(run, "sft"))
    run = go(run)
    assert run.state == "succeeded"
    jobs.resume(user, one)
    services.advance_all()
    assert go(run).state == "succeeded" and states(run)["sft"] == "failed"


def test_a_job_that_failed_on_the_way_down_does_not_bring_its_run_back(user, run) -> None:
    one = runs(job(run, "sft"))
    services.cancel(user, run)
    fails(one)
    assert go(run).state == "cancelled"
    jobs.resume(user, one)
    services.advance_all()
    assert go(run).state == "cancelled" and states(run) == {"sft": "failed", "dpo": "cancelled"}


def test_a_cancelled_run_is_not_brought_back_by_a_jobs_page(user, run) -> None:
    one = job(run, "sft")
    services.cancel(user, run)
    run = go(run)
    one.refresh_from_db()
    jobs.resume(user, one)
    services.advance_all()
    assert go(run).state == "cancelled" and states(run)["sft"] == "cancelled"
    services.retry(user, at(run, "sft"))
    assert job(run, "sft") == one and states(run)["sft"] == "running", "it is taken as it is"


@pytest.mark.parametrize("act", [services.cancel, services.pause, services.resume])
def test_a_viewer_changes_no_run(run, act) -> None:
    with pytest.raises(Forbidden):
        act(make_user("look", Role.VIEWER), run)
    assert fresh(run).state == "running" and fresh(run).cancel_requested_at is None


def test_a_viewer_starts_and_retries_nothing(user, run) -> None:
    look = make_user("look", Role.VIEWER)
    with pytest.raises(Forbidden):
        services.start(look, run.version.pipeline, {})
    fails(job(run, "sft"))
    run = go(run)
    with pytest.raises(Forbidden):
        services.retry(look, at(run, "sft"))
    assert fresh(run).state == "failed"
