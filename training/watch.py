"""Watching one attempt from its spawn to its end: the journal into the database, signals to the engine, the verdict.

A :class:`Watch` is a thread. It holds ``watch.lock`` as long as it watches; the engine looks at that lock and
ends by itself when nobody has held it for ten minutes. Every write stands under the fence.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from django.db import DatabaseError, connection
from django.utils import timezone

from mlxplatform.core.env import env
from mlxplatform.core.errors import Conflict
from mlxplatform.core.lifecycle import move
from training.engine.run.journal import last_word
from training.engine.run.rundir import hold
from training.ingest import Tail
from training.memory import Watch as MemoryWatch
from training.models import Attempt, Job, JobEvent
from training.process import Engine, Exit
from training.settle import settle
from training.states import JobState

log = logging.getLogger(__name__)

TICK = 0.02  # seconds between two looks at journal and process
ROW_EVERY = 0.25  # seconds between two looks at what people asked for
HEARTBEAT_EVERY = 5.0  # seconds
STALLED_AFTER = 600.0  # seconds without a step, then one warning
AFTER_WORD = 30.0  # seconds an engine may live on after its last word
DISK_RATE = 20e6  # bytes per second at which a slow disk takes a checkpoint


class Watch(threading.Thread):
    """Follows ``engine``, which runs ``attempt``, and closes the attempt when it has ended.

    ``on_end`` is called, in this thread, after the slot is free. :meth:`drain` asks the engine for a
    checkpoint and its end; :meth:`abandon` only stops watching.
    """

    def __init__(self, attempt: Attempt, engine: Engine, lock: int, on_end: Callable[[Watch], None]) -> None:
        super().__init__(name=f"watch-{attempt.job.number}.{attempt.n}", daemon=True)
        self.attempt, self.engine = attempt, engine
        self._lock, self._on_end = lock, on_end
        self._tail = Tail(attempt)
        self._memory = MemoryWatch()
        self._draining, self._abandoned = threading.Event(), threading.Event()
        self._pulse = threading.Event()
        self._told_at: float | None = None  # when SIGTERM was sent, monotonic
        self._killed = False
        self._grace = env().grace_s
        self._word_at: float | None = None
        self._next_row = self._next_beat = 0.0
        self._warned = False

    @property
    def job_id(self) -> object:
        return self.attempt.job_id

    def drain(self) -> None:
        """The service goes down: ask the engine to save and end."""
        self._draining.set()
        self._pulse.set()

    def abandon(self) -> None:
        """Stop watching; the engine goes on."""
        self._abandoned.set()
        self._pulse.set()

    def grace(self, job: Job) -> float:
        """Seconds between asking and killing: enough for twice the newest checkpoint on a slow disk."""
        newest = job.checkpoints.values_list("bytes", flat=True).first() or 0
        return max(env().grace_s, 2 * newest / DISK_RATE)

    def run(self) -> None:
        try:
            self._follow()
        except Conflict:
            log.warning("Job %s was taken over by another worker.", self.attempt.job_id)
        except Exception:
            log.exception("Watching job %s failed; it is adopted again in a moment.", self.attempt.job_id)
        finally:
            os.close(self._lock)
            connection.close()
            self._on_end(self)

    def _follow(self) -> None:
        """Until the engine is gone and the attempt is closed."""
        while not self._abandoned.is_set():
            gone = self.engine.exit()
            busy = self._patiently(self._tick)
            if busy is False and gone is not None and self._patiently(self._close, gone):
                return
            if not busy:
                self._pulse.wait(TICK)
                self._pulse.clear()

    def _tick(self) -> bool:
        """One look at everything; whether the journal had something new."""
        busy = self._tail.pull()
        now = time.monotonic()
        if now >= self._next_row:
            self._next_row = now + ROW_EVERY
            self._obey()
        if now >= self._next_beat:
            self._next_beat = now + HEARTBEAT_EVERY
            self._heartbeat()
        self._escalate(now)
        return busy

    def _close(self, gone: Exit) -> bool:
        """The engine is gone: sweep up its group, read the rest of its journal, settle."""
        self.engine.sweep()
        self._tail.drain()
        settle(self.attempt, gone, told_to_stop=self._told_at is not None, out_of_memory=self._memory.killed())
        return True

    def _patiently(self, work: Callable[..., bool], *args: object) -> bool | None:
        """``work``, or None when the database is busy: it is tried again, and the training never notices."""
        try:
            return work(*args)
        except DatabaseError as error:
            log.warning("The database did not take a write of job %s: %s", self.attempt.job_id, error)
            connection.close()
            self._abandoned.wait(0.5)
            return None

    def _obey(self) -> None:
        """Do what people asked for in the row."""
        self._memory.sample()
        job = Job.objects.filter(pk=self.attempt.job_id, fence=self.attempt.fence).first()
        if job is None:
            raise Conflict("state.fenced", "Another worker has taken this job over.", "Nothing was written.")
        if job.stop_wanted and job.state in (JobState.STARTING, JobState.RUNNING):
            move(job, JobState.STOPPING, fence=self.attempt.fence)
        if job.kill_requested_at is not None and not self._killed:
            self._kill()
        elif self._told_at is None and (job.stop_wanted or self._draining.is_set()):
            self._grace = self.grace(job)
            self._told_at = time.monotonic()
            self.engine.signal(signal.SIGTERM)

    def _escalate(self, now: float) -> None:
        """Kill an engine that was asked to end and does not."""
        if self._draining.is_set() and self._told_at is None:
            self._obey()
        if self._killed or self._told_at is None:
            return
        if now - self._told_at > self._grace:
            text = f"The engine did not end within {self._grace:.0f} s after it was asked to; it is killed."
            JobEvent.objects.append(
                self.attempt.job_id, [("log", {"level": "warning", "message": text})], fence=self.attempt.fence
            )
            self._kill()

    def _kill(self) -> None:
        self._killed = True
        self._told_at = self._told_at or time.monotonic()
        self.engine.signal(signal.SIGKILL)

    def _heartbeat(self) -> None:
        """Show that this worker lives; look for signs of trouble."""
        rows = Attempt.objects.filter(pk=self.attempt.pk, fence=self.attempt.fence)
        if rows.update(heartbeat_at=timezone.now()) != 1:
            raise Conflict("state.fenced", "Another worker has taken this job over.", "Nothing was written.")
        self._end_the_undead()
        self._warn_if_stalled()

    def _end_the_undead(self) -> None:
        """An engine that said its last word must go; one that hangs in its clean-up would hold the slot."""
        if self._killed or last_word(self.attempt.folder.journal) is None:
            return
        now = time.monotonic()
        self._word_at = self._word_at or now
        if now - self._word_at > AFTER_WORD:
            self._kill()

    def _warn_if_stalled(self) -> None:
        """Say once when no step came for long; a slow training is never killed for it."""
        row = Attempt.objects.filter(pk=self.attempt.pk).values("progress_at", "step").first()
        since = row["progress_at"] if row else None
        if since is None:
            return
        quiet = (timezone.now() - since).total_seconds()
        if quiet < STALLED_AFTER:
            self._warned = False
        elif not self._warned:
            self._warned = True
            text = f"No step for {quiet / 60:.0f} minutes, the last was {row['step'] if row else 0}."
            JobEvent.objects.append(
                self.attempt.job_id, [("log", {"level": "warning", "message": text})], fence=self.attempt.fence
            )


def watch_lock(attempt: Attempt) -> int | None:
    """Take the attempt's ``watch.lock``; None when another worker watches it."""
    return hold(attempt.folder.watch_lock)
