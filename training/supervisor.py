"""The worker's heart: starts what is queued, adopts what runs, closes what died, and drains when it goes down.

Threads: the sweep (every second, or at once when the bell rings), the reaper (every few seconds), the
housekeeper, and one :class:`~training.watch.Watch` for each running attempt.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connection
from django.utils import timezone

from mlxplatform.core.errors import Conflict
from training import housekeeping, process, recovery
from training.dispatch import BELL, claim, make_slots
from training.endings import Verdict
from training.engine.catalog.kinds import KINDS
from training.engine.errors import EngineError
from training.models import Attempt, Job
from training.orders import write_config
from training.process import Engine, Exit
from training.settle import close
from training.states import AttemptState, JobState
from training.watch import Watch, watch_lock

log = logging.getLogger(__name__)

SWEEP_EVERY = 1.0  # seconds
REAP_EVERY = 3.0  # seconds
HOUSEKEEPING_EVERY = 3600.0  # seconds


class Supervisor:
    """Runs jobs until :meth:`stop`. One per worker process."""

    def __init__(self) -> None:
        self._watches: dict[UUID, Watch] = {}  # attempt id → its watch
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(self._sweep, SWEEP_EVERY, BELL), name="sweep", daemon=True),
            threading.Thread(target=self._repeat, args=(self._reap, REAP_EVERY, None), name="reaper", daemon=True),
            threading.Thread(
                target=self._repeat, args=(housekeeping.run, HOUSEKEEPING_EVERY, None), name="housekeeper", daemon=True
            ),
        ]
        self._clock = recovery.Clock()

    def start(self) -> None:
        """Adopt what is there, then begin to look for work."""
        make_slots()
        self._reap()
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float | None = None) -> bool:
        """Drain: no new work, every engine saves and ends, its job goes back into the queue.

        True when all ended within ``patience`` seconds (None: as long as it takes; each has its grace time).
        """
        self._stopping.set()
        BELL.set()
        deadline = None if patience is None else time.monotonic() + patience
        for watch in self._all():
            watch.drain()
        for thread in self._threads:  # a sweep in the middle of a start adds one more watch, which drains too
            if thread.is_alive():
                thread.join(timeout=5)
        watches = self._all()
        for watch in watches:
            watch.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not any(watch.is_alive() for watch in watches)

    def abandon(self) -> None:
        """Stop at once and leave the engines running, as a killed worker would."""
        self._stopping.set()
        BELL.set()
        watches = self._all()
        for watch in watches:
            watch.abandon()
        for thread in [*watches, *self._threads]:
            if thread.is_alive():
                thread.join(timeout=10)

    @property
    def watched(self) -> int:
        """Number of running attempts."""
        return len(self._all())

    def _all(self) -> list[Watch]:
        with self._lock:
            return list(self._watches.values())

    def _repeat(self, work: Any, seconds: float, bell: threading.Event | None) -> None:
        """Do ``work`` every so often until the end; a busy database only delays it."""
        while not self._stopping.is_set():
            if bell is not None:
                bell.clear()
            try:
                work()
            except DatabaseError as error:
                log.warning("%s: the database is busy: %s", threading.current_thread().name, error)
            except Exception:
                log.exception("%s failed; it is tried again.", threading.current_thread().name)
            finally:
                connection.close()
            (bell or self._stopping).wait(seconds)

    def _sweep(self) -> None:
        """Start every job there is a slot for."""
        for resource in Job.Resource.values:
            while not self._stopping.is_set() and (attempt := claim(resource)) is not None:
                self._launch(attempt)

    def _launch(self, attempt: Attempt) -> None:
        """Start the engine on a claimed attempt. What prevents the start ends the job, with its reason."""
        job = attempt.job
        attempt.folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = watch_lock(attempt)
        if lock is None:
            raise Conflict("state.fenced", "Another worker watches this attempt already.", "Nothing was started.")
        try:
            engine = self._spawned(attempt)
        except BaseException:
            recovery.unlock(lock)  # the reaper closes the attempt
            raise
        if engine is None:
            recovery.unlock(lock)
            return
        identity = engine.identity
        attempt.pid, attempt.pgid, attempt.process_start = identity.pid, identity.pid, identity.start
        try:
            Attempt.objects.filter(pk=attempt.pk, fence=attempt.fence).update(
                pid=identity.pid, pgid=identity.pid, process_start=identity.start, heartbeat_at=timezone.now()
            )
        except DatabaseError as error:
            log.warning("The process number of job #%s is stored later: %s", job.number, error)
        self._watch(attempt, engine, lock)

    def _spawned(self, attempt: Attempt) -> Engine | None:
        """The attempt's engine; None when it could not be started and the attempt is closed."""
        job = attempt.job
        try:
            write_config(job)
            attempt.folder.prepare(attempt.fence)
            return process.spawn(KINDS[job.kind].command, job.run_dir, attempt.n)
        except (EngineError, OSError) as error:
            self._refuse(attempt, error)
            return None

    def _refuse(self, attempt: Attempt, error: EngineError | OSError) -> None:
        """The engine could not be started at all."""
        if isinstance(error, EngineError):
            code, message, hint = error.code, error.message, error.hint
            problems = [problem.as_dict() for problem in error.problems[:200]]
        else:
            code, message, problems = "storage.start", f"The engine could not be started: {error.strerror}.", []
            hint = "Check the data folder's disk and rights (python manage.py doctor), then resume."
        Job.objects.filter(pk=attempt.job_id, fence=attempt.fence).update(result={"problems": problems})
        close(attempt.job, attempt, Exit(), Verdict(AttemptState.FAILED, JobState.FAILED, code, message, hint))

    def _reap(self) -> None:
        """Look after every active attempt that nobody here watches."""
        grace = self._clock.jumped()
        with self._lock:
            mine = set(self._watches)
        for found in recovery.unwatched(mine, grace):
            if self._stopping.is_set():
                recovery.unlock(found.lock)
            elif found.engine is not None:
                log.info("Job #%s goes on: its engine (process %s) lives.", found.attempt.job.number, found.engine.pid)
                self._watch(found.attempt, found.engine, found.lock)
            else:
                recovery.bury(found)
                BELL.set()

    def _watch(self, attempt: Attempt, engine: Engine, lock: int) -> None:
        watch = Watch(attempt, engine, lock, self._ended)
        with self._lock:
            self._watches[attempt.pk] = watch
        watch.start()
        if self._stopping.is_set():
            watch.drain()

    def _ended(self, watch: Watch) -> None:
        with self._lock:
            self._watches.pop(watch.attempt.pk, None)
        BELL.set()
