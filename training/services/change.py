"""What may be changed of a job that is there: name, notes, priority; into the trash and out of it."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Conflict, Invalid
from mlxplatform.core.models import AuditEvent
from training import validation
from training.engine.errors import Problem
from training.models import Job
from training.services.control import stop_queued
from training.services.queue import locked, now
from training.states import JobState

MAX_NOTES = 20_000


def change(
    user: Any, job: Job, *, name: str | None = None, notes: str | None = None, priority: int | None = None
) -> Job:
    """Change what is given of name, notes (plain text) and priority (-100 to 100, higher starts first)."""
    require(user, Role.EDITOR)
    problems = validation.name_problems(name) if name is not None else []
    problems += validation.priority_problems(priority) if priority is not None else []
    if notes is not None and len(notes) > MAX_NOTES:
        text = f"The notes have more than {MAX_NOTES} characters."
        problems.append(Problem(("notes",), "notes.too_long", text, "Shorten them."))
    if problems:
        raise Invalid.of(problems)
    asked = {"name": name and name.strip(), "notes": notes, "priority": priority}
    with transaction.atomic():
        job = locked(job)
        new = {column: value for column, value in asked.items() if value not in (None, getattr(job, column))}
        before = {column: getattr(job, column) for column in new if column != "notes"}
        for column, value in new.items():
            setattr(job, column, value)
        job.save(update_fields=list(new))
        AuditEvent.write(user, "job.change", f"job {job.pk}", changed=sorted(new), before=before)
    return job


def rename(user: Any, job: Job, name: str) -> Job:
    """Give the job another name."""
    return change(user, job, name=name)


def set_notes(user: Any, job: Job, notes: str) -> Job:
    """Replace the job's notes."""
    return change(user, job, notes=notes)


def set_priority(user: Any, job: Job, priority: int) -> Job:
    """Move the job forward or back in the queue."""
    return change(user, job, priority=priority)


def delete(user: Any, job: Job) -> Job:
    """Put the job into the trash; a queued one is stopped first. Raises Conflict while it is active."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        job = locked(job)
        if job.is_active:
            raise Conflict("job.active", f"Job #{job.number} is {job.state}.", "Stop it, then delete it.")
        if job.state == JobState.QUEUED:
            stop_queued(user, job)
        job.deleted_at = timezone.now()
        job.save(update_fields=["deleted_at"])
        AuditEvent.write(user, "job.delete", f"job {job.pk}", number=job.number)
    return now(job)


def restore(user: Any, job: Job) -> Job:
    """Take the job out of the trash."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        job = locked(job)
        job.deleted_at = None
        job.save(update_fields=["deleted_at"])
        AuditEvent.write(user, "job.restore", f"job {job.pk}", number=job.number)
    return job
