"""The end of a job, and its resume. None of these touches a process: the worker sees what was asked in the row."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Conflict
from mlxplatform.core.lifecycle import move
from mlxplatform.core.models import AuditEvent
from training.models import Job, JobEvent
from training.services.queue import announce, locked, now, room_in_queue
from training.signals import job_finished, job_queued
from training.states import RESUMABLE, JobState


def request_stop(user: Any, job: Job) -> Job:
    """Ask the job to save a checkpoint and end. A queued job is stopped at once. Asking twice is harmless."""
    return _request(user, job, "stop_requested_at", "stop")


def request_pause(user: Any, job: Job) -> Job:
    """As :func:`request_stop`, but the job ends ``paused``."""
    return _request(user, job, "pause_requested_at", "pause")


def request_kill(user: Any, job: Job) -> Job:
    """Ask for the job's end without a new checkpoint; what the last one holds is kept."""
    return _request(user, job, "kill_requested_at", "kill")


def resume(user: Any, job: Job) -> Job:
    """Queue a stopped, paused or failed job again: same job, new attempt, from its newest checkpoint."""
    require(user, Role.EDITOR)
    room_in_queue()
    with transaction.atomic():
        job = locked(job)
        if job.state == JobState.SUCCEEDED:
            raise Conflict(
                "job.succeeded",
                f"Job #{job.number} has succeeded and stays as it is.",
                "To continue with other settings, start a new job from it (Clone).",
            )
        if job.state not in RESUMABLE:
            raise Conflict("job.not_resumable", f"Job #{job.number} is {job.state}.", "Stop or pause it first.")
        move(
            job,
            JobState.QUEUED,
            only_from=RESUMABLE,
            stop_requested_at=None,
            pause_requested_at=None,
            kill_requested_at=None,
            reason="",
            message="",
            hint="",
            queued_at=timezone.now(),
            ended_at=None,
        )
        AuditEvent.write(user, "job.resume", f"job {job.pk}")
        announce(job_queued, job)
    return now(job)


def stop_queued(user: Any, job: Job) -> None:
    move(
        job,
        JobState.STOPPED,
        only_from={JobState.QUEUED},
        reason="cancelled",
        message=f"Stopped by {user.username} before it started.",
        hint="Resume puts it back into the queue.",
        ended_at=timezone.now(),
    )
    announce(job_finished, job)


def _request(user: Any, job: Job, column: str, word: str) -> Job:
    require(user, Role.EDITOR)
    with transaction.atomic():
        job = locked(job)
        if job.state == JobState.QUEUED:
            stop_queued(user, job)
        elif not job.is_active:
            raise Conflict("job.not_running", f"Job #{job.number} is {job.state} already.", "There is nothing to end.")
        elif getattr(job, column) is not None:
            return job
        else:
            setattr(job, column, timezone.now())
            job.save(update_fields=[column])
            line = {"level": "info", "message": f"{user.username} asked for: {word}."}
            JobEvent.objects.append(job.pk, [("log", line)])
        AuditEvent.write(user, f"job.{word}", f"job {job.pk}", number=job.number)
    return now(job)
