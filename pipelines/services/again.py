"""Steps that get another chance, and what was not reached because of them."""

from __future__ import annotations

from typing import Any

from mlxplatform.core.lifecycle import move
from pipelines.models import PipelineRun, StepRun
from pipelines.states import StepState
from training import services as jobs
from training.states import RESUMABLE, JobState


def again(user: Any, step: StepRun) -> None:
    """Let an ended step begin again. A job that can be resumed goes on where it was; one that runs is kept."""
    job = step.job
    if job is None or job.deleted_at is not None or job.state == JobState.SUCCEEDED:
        anew(step)
        return
    if job.state in RESUMABLE:
        jobs.resume(user, job)
    goes_on(step)


def goes_on(step: StepRun) -> None:
    """The step's job was resumed."""
    move(step, StepState.RUNNING, only_from={StepState.FAILED, StepState.CANCELLED}, message="", ended_at=None)


def anew(step: StepRun) -> None:
    """The step begins from nothing, with a job of its own if it needs one."""
    facts: dict[str, Any] = {"job": None, "message": "", "why": "", "details": {}, "started_at": None, "ended_at": None}
    move(step, StepState.WAITING, tries=step.tries + 1, **facts)


def unskip(run: PipelineRun) -> None:
    """What could not be reached may be reachable now; the planner skips it again if it is not."""
    for step in run.steps.filter(state=StepState.SKIPPED):
        anew(step)
