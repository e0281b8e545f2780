"""Into the queue, and what every service of jobs needs: the row, locked; the row, fresh; the news, after commit."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max

from mlxplatform.core.env import env
from mlxplatform.core.errors import Invalid, TooMuch
from mlxplatform.core.models import AuditEvent
from registry.models import ModelVersion
from training import uploads
from training.engine.catalog.kinds import KINDS
from training.models import Job, JobInput
from training.signals import job_queued
from training.states import JobState


def made_before(user: Any, key: str) -> Job | None:
    """The job that was made with this key before."""
    if len(key) > 120:
        raise Invalid("idempotency.too_long", "The idempotency key has more than 120 characters.", "Use a UUID.")
    return Job.objects.filter(owner=user, idempotency_key=key).first() if key else None


def enqueue(user: Any, kind: str, key: str, *, inputs: Mapping[str, ModelVersion] = {}, **columns: Any) -> Job:
    """Insert a queued job with the next number; ``inputs`` are further models by their role.

    A lost race for number or key is run again.
    """
    room_in_queue()
    for last in (False, False, True):
        try:
            with transaction.atomic():
                number = (Job.objects.aggregate(top=Max("number"))["top"] or 0) + 1
                job = Job.objects.create(
                    number=number, kind=kind, resource=KINDS[kind].resource, owner=user, idempotency_key=key, **columns
                )
                JobInput.objects.bulk_create(JobInput(job=job, role=role, version=v) for role, v in inputs.items())
                job.record_move("", JobState.QUEUED)
                AuditEvent.write(user, "job.create", f"job {job.pk}", number=number, kind=str(kind))
                announce(job_queued, job)
            return now(job)
        except IntegrityError:
            if made := made_before(user, key):
                return made
            if last:
                raise
    raise AssertionError("the loop returns or raises")


def room_in_queue() -> None:
    limit = env().max_queued
    if Job.objects.waiting().count() >= limit:
        raise TooMuch("queue.full", f"{limit} jobs are waiting already.", "Delete some, or raise MLXP_MAX_QUEUED.")
    uploads.need_disk()


def announce(signal: Any, job: Job) -> None:
    """Send the signal after commit; a receiver's fault must not undo what was done."""
    pk = job.pk
    transaction.on_commit(lambda: signal.send_robust(sender=Job, job_id=pk))


def locked(job: Job) -> Job:
    """The row as it stands now, held until the end of the transaction."""
    return Job.objects.select_for_update().get(pk=job.pk)


def now(job: Job) -> Job:
    """The row with the number of the event that was written last."""
    job.refresh_from_db()
    return job


def find(table: Any, user: Any, key: Any) -> Any:
    """The visible row with this id that is not in the trash, or None."""
    try:
        row = table.objects.visible_to(user).filter(pk=uuid.UUID(str(key))).first()
    except ValueError:
        return None
    holder = getattr(row, "model", None) or getattr(row, "dataset", None) or row
    return None if getattr(holder, "deleted_at", None) else row
