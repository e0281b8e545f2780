"""What people decide about a run: cancel, pause, resume, try again, approve, reject."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Conflict
from mlxplatform.core.lifecycle import move
from mlxplatform.core.models import AuditEvent
from pipelines.models import Approval, PipelineRun, StepRun
from pipelines.signals import announce
from pipelines.states import RUN_ENDED, RunState, StepState
from training import services as jobs
from training.states import ENDED, RESUMABLE, JobState


def cancel(user: Any, run: PipelineRun) -> PipelineRun:
    """End the run: what waits is cancelled, what runs saves a checkpoint and stops. Asking twice is harmless."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        rows = PipelineRun.objects.filter(pk=run.pk, cancel_requested_at=None).exclude(state__in=RUN_ENDED)
        if rows.update(cancel_requested_at=timezone.now()):
            _noted(user, run, "cancel")
    run.refresh_from_db()
    if run.cancel_requested_at is None:
        raise Conflict("run.ended", f"Run #{run.number} has {run.state} already.", "There is nothing to end.")
    return run


def pause(user: Any, run: PipelineRun) -> PipelineRun:
    """Nothing new begins, and the jobs of running steps save and pause."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        move(run, RunState.PAUSED, only_from={RunState.RUNNING})
        for step in run.steps.filter(state=StepState.RUNNING).exclude(job=None).select_related("job"):
            if step.job is not None and step.job.state not in ENDED:
                jobs.request_pause(user, step.job)
        _noted(user, run, "pause")
    return run


def resume(user: Any, run: PipelineRun) -> PipelineRun:
    """Go on with a paused run; paused jobs continue from their checkpoints."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        move(run, RunState.RUNNING, only_from={RunState.PAUSED})
        for step in run.steps.filter(state=StepState.RUNNING, job__state=JobState.PAUSED).select_related("job"):
            if step.job is not None:
                jobs.resume(user, step.job)
        _noted(user, run, "resume")
    return run


def retry(user: Any, step: StepRun) -> StepRun:
    """Try a step again, and all that was not reached or cancelled. A job that can be resumed goes on where it was."""
    require(user, Role.EDITOR)
    run = step.run
    with transaction.atomic():
        if run.state not in (RunState.FAILED, RunState.CANCELLED, RunState.RUNNING):
            raise Conflict("run.not_failed", f"Run #{run.number} is {run.state}.", "There is nothing to try again.")
        if step.state not in (StepState.FAILED, StepState.CANCELLED):
            raise Conflict("step.not_failed", f"'{step.name}' is {step.state}.", "Choose one that failed.")
        if run.state in RUN_ENDED:
            move(run, RunState.RUNNING, message="", ended_at=None, cancel_requested_at=None)
        if step.state == StepState.FAILED and step.job is not None and step.job.state in RESUMABLE:
            jobs.resume(user, step.job)
            move(step, StepState.RUNNING, only_from={StepState.FAILED}, message="", ended_at=None)
        else:
            _again(step)
        for other in run.steps.filter(state__in=(StepState.SKIPPED, StepState.CANCELLED)).exclude(pk=step.pk):
            _again(other)
        _noted(user, run, "retry")
    return step


def _again(step: StepRun) -> None:
    move(step, StepState.WAITING, tries=step.tries + 1, job=None, message="", why="", details={}, ended_at=None)


def approve(user: Any, step: StepRun, digest: str, note: str = "") -> Approval:
    """Say yes. ``digest`` is that of what the person saw: an answer to something else is refused."""
    return _decided(user, step, digest, note, approved=True)


def reject(user: Any, step: StepRun, digest: str, note: str = "") -> Approval:
    """Say no: the step has failed."""
    return _decided(user, step, digest, note, approved=False)


def _decided(user: Any, step: StepRun, digest: str, note: str, *, approved: bool) -> Approval:
    require(user, Role.EDITOR)
    if digest != step.digest:
        raise Conflict("approval.changed", "What you saw is not what waits now.", "Reload, look again, then decide.")
    with transaction.atomic():
        words = f"{'Approved' if approved else 'Rejected'} by {user}" + (
            f": {note.strip()[:400]}" if note.strip() else ""
        )
        state = StepState.SUCCEEDED if approved else StepState.FAILED
        move(step, state, only_from={StepState.APPROVAL}, message=f"{words}.", ended_at=timezone.now())
        made = Approval.objects.create(step=step, user=user, approved=approved, note=note.strip()[:2000], digest=digest)
        _noted(user, step.run, "approve" if approved else "reject", step=step.name)
    return made


def _noted(user: Any, run: PipelineRun, word: str, **facts: Any) -> None:
    AuditEvent.write(user, f"run.{word}", f"pipeline run {run.pk}", number=run.number, **facts)
    announce(run)
