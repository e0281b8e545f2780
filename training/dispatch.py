"""Which job starts next, and where: slots are rows, and a claim is one transaction of conditional updates.

Several workers may claim at once; each job and each slot goes to one of them.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

from django.db import transaction
from django.db.models import F, Max
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from mlxplatform.core.env import env
from mlxplatform.core.errors import Conflict
from mlxplatform.core.lifecycle import move
from training.engine.catalog.kinds import KINDS
from training.models import Attempt, Checkpoint, DeviceSlot, Job
from training.process import boot_id, host
from training.series import truncate
from training.states import JobState

#: Set to make the worker of this process look for queued jobs at once; it looks every second anyway.
BELL = threading.Event()

MANIFEST = "manifest.json"  # last file of a checkpoint; without it the folder does not count
CHECKPOINT = re.compile(r"^(\d{7,})(-\d+)?$")  # its folder: the step, and micro-batches of a half-done update


def make_slots() -> None:
    """Bring the slot rows in line with the settings. A slot that is still held stays until it is free."""
    wanted = {f"{Job.Resource.DEVICE}:{i}": Job.Resource.DEVICE for i in range(env().device_slots)}
    wanted |= {f"{Job.Resource.CPU}:{i}": Job.Resource.CPU for i in range(env().cpu_slots)}
    for name, resource in wanted.items():
        DeviceSlot.objects.get_or_create(name=name, defaults={"resource": resource})
    DeviceSlot.objects.exclude(name__in=wanted).filter(job=None).delete()


def claim(resource: str) -> Attempt | None:
    """Give the next waiting job of ``resource`` a slot and a new attempt; None when either is missing.

    A lost race is None too: the caller comes back within a second.
    """
    if not Job.objects.waiting().filter(resource=resource).exists():
        return None
    try:
        with transaction.atomic():
            job = Job.objects.waiting().filter(resource=resource).first()
            slot = DeviceSlot.objects.filter(resource=resource, job=None).first()
            return None if job is None or slot is None else _take(job, slot)
    except Conflict:
        return None


def _take(job: Job, slot: DeviceSlot) -> Attempt:
    """The writes of a claim; raises Conflict, and undoes all of them, when job or slot went elsewhere."""
    fence = job.fence + 1
    raised = Job.objects.filter(pk=job.pk, state=JobState.QUEUED, fence=job.fence).update(fence=fence)
    taken = DeviceSlot.objects.filter(pk=slot.pk, job=None).update(job=job, fence=fence, taken_at=timezone.now())
    if raised != 1 or taken != 1:
        raise Conflict("state.raced", "Another worker was first.", "Nothing was written.")
    move(
        job,
        JobState.STARTING,
        only_from={JobState.QUEUED},
        fence=fence,
        phase="",
        reason="",
        message="",
        hint="",
        started_at=Coalesce(F("started_at"), Now()),
        ended_at=None,
    )
    earlier = job.attempts.aggregate(top=Max("n"))["top"] or 0
    n = max(earlier, job.run_dir.newest_attempt()) + 1
    step = resume_step(job)
    if earlier:
        truncate(job, step, fence=fence)
    return Attempt.objects.create(
        job=job, n=n, fence=fence, host=host(), boot_id=boot_id(), first_step=step, heartbeat_at=timezone.now()
    )


def resume_step(job: Job) -> int:
    """The step a new attempt goes on from: that of the newest complete checkpoint on disk, else 0."""
    if not KINDS[job.kind].resumable:
        return 0
    return max(complete_checkpoints(job.run_dir.checkpoints), default=0)


def complete_checkpoints(folder: Path) -> list[int]:
    """Steps of the complete checkpoints in ``folder``."""
    try:
        found = [CHECKPOINT.match(p.name) for p in folder.iterdir() if (p / MANIFEST).is_file()]
    except OSError:
        return []
    return sorted(int(match.group(1)) for match in found if match)


def release(job: Job, fence: int) -> None:
    """Free the slot that ``job`` holds under ``fence``; belongs into the transaction that ends the attempt."""
    DeviceSlot.objects.filter(job=job, fence=fence).update(job=None, taken_at=None)


def take_over(attempt: Attempt) -> Attempt:
    """Raise the fence of a job whose worker is gone, so that a late write of that worker fails.

    Returns the attempt under the new fence. Raises Conflict when another worker was first.
    """
    fence = attempt.fence + 1
    with transaction.atomic():
        raised = Job.objects.filter(pk=attempt.job_id, fence=attempt.fence).update(fence=fence)
        moved = Attempt.objects.filter(pk=attempt.pk, fence=attempt.fence, ended_at=None).update(fence=fence)
        if raised != 1 or moved != 1:
            raise Conflict("state.fenced", "Another worker has taken this job over.", "Nothing was written.")
        DeviceSlot.objects.filter(job_id=attempt.job_id).update(fence=fence)
    attempt.refresh_from_db()
    return attempt


def made_checkpoint(attempt: Attempt) -> bool:
    """Whether the attempt left a checkpoint that was not there before it."""
    return Checkpoint.objects.filter(job_id=attempt.job_id, attempt=attempt.n).exists()
