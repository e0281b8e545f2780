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
from pipelines.services.again import again, unskip
from pipelines.signals import announce
from pipelines.states import RUN_ENDED, RunState, StepState
from training import services as jobs
from training.models import Job
from training.states import ENDED, JobState


def cancel(user: Any, run: PipelineRun) -> PipelineRun:
    """End the run: what waits is cancelled, what runs saves a checkpoint and stops. Asking twice is harmless."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        rows = PipelineRun.objects.filter(pk=run.pk, cancel_requested_at=None).exclude(state__in=RUN_ENDED)
        if rows.update(cancel_requested_at=timezone.now()):
            for job in _jobs(run):
                if job.state not in ENDED and not job.stop_wanted:
                    jobs.request_stop(user, job)
            _noted(user, run, "cancel")
    run.refresh_from_db()
    if run.cancel_requested_at is None:
        raise Conflict("run.ended", f"Run #{run.number} has {run.state} already.", "There is nothing to end.")
    return run


def pause(user: Any, run: PipelineRun) -> PipelineRun:
    """Nothing new begins, and the jobs of running steps save and pause; those in the queue are taken out of it."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        _not_ending(run)
        move(run, RunState.PAUSED, only_from={RunState.RUNNING})
        for job in _jobs(run):
            if job.state not in ENDED:
                jobs.request_pause(user, job)
        _noted(user, run, "pause")
    return run


def resume(user: Any, run: PipelineRun) -> PipelineRun:
    """Go on with a paused run; paused jobs continue from their checkpoints. Raises Conflict while one still saves."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        move(run, RunState.RUNNING, only_from={RunState.PAUSED})
        for job in _jobs(run):
            if job.pause_requested_at is not None and job.is_active:
                raise Conflict("run.pausing", f"Job #{job.number} is still saving.", "Resume once it has paused.")
            if job.state in (JobState.PAUSED, JobState.STOPPED):
                jobs.resume(user, job)
        _noted(user, run, "resume")
    return run


def retry(user: Any, step: StepRun) -> StepRun:
    """Try a step again, and all that was not reached or cancelled. A job that can be resumed goes on where it was."""
    require(user, Role.EDITOR)
    run = step.run
    with transaction.atomic():
        step.refresh_from_db()
        _not_ending(run)
        if run.state not in (RunState.FAILED, RunState.CANCELLED, RunState.RUNNING):
            raise Conflict("run.not_failed", f"Run #{run.number} is {run.state}.", "There is nothing to try again.")
        if step.state not in (StepState.FAILED, StepState.CANCELLED):
            raise Conflict("step.not_failed", f"'{step.name}' is {step.state}.", "Choose one that failed.")
        if run.state in RUN_ENDED:
            move(run, RunState.RUNNING, only_from=RUN_ENDED, message="", ended_at=None, cancel_requested_at=None)
        again(user, step)
        for other in run.steps.filter(state=StepState.CANCELLED).exclude(pk=step.pk).select_related("job"):
            again(user, other)
        unskip(run)
        _noted(user, run, "retry", step=step.name)
    return step


def _jobs(run: PipelineRun) -> list[Job]:
    """The jobs of the steps that run."""
    steps = run.steps.filter(state=StepState.RUNNING, job__deleted_at=None).select_related("job")
    return [step.job for step in steps if step.job is not None]


def _not_ending(run: PipelineRun) -> None:
    run.refresh_from_db()
    if run.cancel_requested_at is not None and not run.has_ended:
        raise Conflict("run.ending", f"Run #{run.number} is being cancelled.", "Wait until it has ended.")


def approve(user: Any, step: StepRun, digest: str, note: str = "") -> Approval:
    """Say yes. ``digest`` is that of what the person saw: an answer to something else is refused."""
    return _decided(user, step, digest, note, approved=True)


def reject(user: Any, step: StepRun, digest: str, note: str = "") -> Approval:
    """Say no: the step has failed."""
    return _decided(user, step, digest, note, approved=False)


def _decided(user: Any, step: StepRun, digest: str, note: str, *, approved: bool) -> Approval:
    require(user, Role.EDITOR)
    with transaction.atomic():
        step.refresh_from_db()
        if step.state == StepState.APPROVAL and digest != step.digest:
            raise Conflict("approval.changed", "What you saw is not what waits now.", "Reload, look, then decide.")
        said = note.strip()[:400].rstrip(".")
        words = f"{'Approved' if approved else 'Rejected'} by {user}" + (f": {said}" if said else "")
        state = StepState.SUCCEEDED if approved else StepState.FAILED
        move(step, state, only_from={StepState.APPROVAL}, message=f"{words}.", ended_at=timezone.now())
        made = Approval.objects.create(step=step, user=user, approved=approved, note=note.strip()[:2000], digest=digest)
        _noted(user, step.run, "approve" if approved else "reject", step=step.name)
    return made


def _noted(user: Any, run: PipelineRun, word: str, **facts: Any) -> None:
    AuditEvent.write(user, f"run.{word}", f"pipeline run {run.pk}", number=run.number, **facts)
    announce(run)
