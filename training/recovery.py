"""Active attempts that nobody watches: those whose engine lives are adopted, the others are buried.

On the same host the process table is believed, not the clock. Of another host only the heartbeat is known.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from mlxplatform.core.errors import Conflict
from training.dispatch import take_over
from training.engine.run.rundir import is_held
from training.ingest import Tail
from training.models import Attempt
from training.process import Engine, Exit, Identity, boot_id, find, host, is_alive, kill_group
from training.settle import settle
from training.states import ACTIVE
from training.watch import watch_lock

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)  # of another host's silence
SPAWN_GRACE = timedelta(seconds=2)  # between a claim and a process that can be found
CLOCK_TOLERANCE = 30.0  # seconds by which the wall clock may leave the monotonic one


@dataclass(frozen=True, slots=True)
class Orphan:
    """An active attempt, taken over by this worker; ``engine`` is None when its process is gone."""

    attempt: Attempt
    lock: int
    engine: Engine | None


class Clock:
    """Notices when the wall clock jumped: the machine slept, or somebody set it."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def jumped(self) -> bool:
        """Whether it jumped since the last call. Heartbeats then look old and get one lease of grace."""
        offset = time.time() - time.monotonic()
        jumped, self._offset = abs(offset - self._offset) > CLOCK_TOLERANCE, offset
        return jumped


def unwatched(mine: set[UUID], clock_jumped: bool) -> Iterator[Orphan]:
    """Take over every active attempt that no worker watches. The caller adopts or buries it."""
    rows = Attempt.objects.filter(ended_at=None, job__state__in=ACTIVE).exclude(pk__in=mine).select_related("job")
    for attempt in rows:
        lock = watch_lock(attempt)
        if lock is None:
            continue  # another worker watches it
        try:
            if _too_early(attempt, clock_jumped):
                unlock(lock)
                continue
            engine = living_engine(attempt)
            yield Orphan(take_over(attempt), lock, engine)
        except Conflict:
            unlock(lock)


def _too_early(attempt: Attempt, clock_jumped: bool) -> bool:
    """Whether its worker may still be about to start it, or lives on another host."""
    now = timezone.now()
    if attempt.host != host():
        beat = attempt.heartbeat_at or attempt.started_at
        return clock_jumped or now - beat < LEASE or is_held(attempt.job.run_dir.lock)
    fresh = timedelta(0) <= now - attempt.started_at < SPAWN_GRACE
    return attempt.pid is None and fresh and find(attempt.job.run_dir) is None


def living_engine(attempt: Attempt) -> Engine | None:
    """The attempt's engine if it lives on this host since this boot."""
    run_dir = attempt.job.run_dir
    if attempt.boot_id != boot_id() or attempt.host != host():
        return None
    stored = Identity(attempt.pid, attempt.process_start) if attempt.pid else None
    if stored is not None and is_alive(stored, run_dir):
        return Engine(stored, run_dir)
    found = find(run_dir)
    return Engine(found, run_dir) if found is not None else None


def bury(orphan: Orphan) -> None:
    """Close an attempt whose engine is gone: kill what is left of its group, read its journal to the end, settle."""
    attempt = orphan.attempt
    try:
        if attempt.pgid and attempt.boot_id == boot_id() and attempt.host == host():
            kill_group(attempt.pgid)
        Tail(attempt).drain()
        settle(attempt, Exit())
        log.info("Attempt %s of job #%s has ended while nobody watched.", attempt.n, attempt.job.number)
    finally:
        unlock(orphan.lock)


def unlock(lock: int) -> None:
    """Give a watch lock back."""
    os.close(lock)
