"""One thread per web process that reads new events and hands them to everybody who watches.

The rows are the truth: the thread polls them every 25 ms while somebody watches and sleeps otherwise
(``docs/decisions/0001-live-pages-poll.md`` says why it polls). Each event is encoded once, whoever
reads it. What a client gets can have holes and doubles; ``streams.Feed`` makes it exact.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from django.db import DatabaseError, close_old_connections, connection
from django.db.models import Q
from django.utils import timezone

from training.models import Job, JobEvent
from training.states import ACTIVE, JobState

log = logging.getLogger(__name__)

TICK = 0.025  # seconds between two looks at the events
OVERVIEW_TICK = 0.25  # seconds between two looks at all jobs, for lists
MOST_ROWS = 500  # events of one look
MOST_JOBS = 100  # jobs in one query: SQLite's expressions may not nest without end
MOST_WAITING = 1000  # frames a client may leave unread
OVERVIEW_COLUMNS = (
    "id", "number", "name", "kind", "state", "phase", "progress", "step", "total_steps", "reason", "message",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive events of one job, ``first`` to ``last``; the overview's have no job and no numbers."""

    job: UUID | None
    first: int
    last: int
    frames: list[bytes]


class Client:
    """What one socket or event stream has not read yet. Belongs to its event loop."""

    def __init__(self, on_overflow: Callable[[], None] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.overflowed = False
        self._waiting: deque[Batch] = deque()
        self._frames = 0
        self._news = asyncio.Event()
        self._on_overflow = on_overflow

    def put(self, batches: Iterable[Batch]) -> None:
        """Leave batches; called in the client's loop. Too many unread frames end the client."""
        if self.overflowed:
            return
        for batch in batches:
            self._waiting.append(batch)
            self._frames += len(batch.frames)
        if self._frames > MOST_WAITING:
            self.overflowed = True
            self._waiting.clear()
            if self._on_overflow is not None:
                self._on_overflow()
        self._news.set()

    async def take(self, seconds: float | None = None) -> list[Batch]:
        """All that waits; after ``seconds`` without any news, nothing."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return []
        self._news.clear()
        batches = list(self._waiting)
        self._waiting.clear()
        self._frames = 0
        return batches


class Hub:
    """Who watches what, and the thread that reads for them."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._cursors: dict[UUID, int] = {}
        self._watchers: dict[UUID, set[Client]] = {}
        self._overview: set[Client] = set()
        self._newcomers: set[Client] = set()
        self._shown: dict[UUID, bytes] = {}
        self._thread: threading.Thread | None = None
        self._stopping = False

    def watch(self, client: Client, job: UUID, cursor: int) -> None:
        """Send ``client`` the events of ``job``. Those after ``cursor`` are sure to come; older ones may."""
        with self._lock:
            self._watchers.setdefault(job, set()).add(client)
            self._cursors.setdefault(job, cursor)
            self._wake()

    def unwatch(self, client: Client, job: UUID) -> None:
        """No more of this job for this client."""
        with self._lock:
            clients = self._watchers.get(job, set())
            clients.discard(client)
            if not clients:
                self._watchers.pop(job, None)
                self._cursors.pop(job, None)

    def watch_overview(self, client: Client) -> None:
        """Send ``client`` the state of every unfinished job now, and of each job that changes."""
        with self._lock:
            self._overview.add(client)
            self._newcomers.add(client)
            self._wake()

    def unwatch_overview(self, client: Client) -> None:
        """No more of the overview for this client."""
        with self._lock:
            self._overview.discard(client)
            self._newcomers.discard(client)

    def leave(self, client: Client) -> None:
        """Nothing more for this client."""
        with self._lock:
            jobs = [job for job, clients in self._watchers.items() if client in clients]
        self.unwatch_overview(client)
        for job in jobs:
            self.unwatch(client, job)

    def stop(self) -> None:
        """End the thread and wait for it; the next subscriber starts another."""
        with self._lock:
            thread, self._stopping = self._thread, True
            self._lock.notify_all()
        if thread is not None:
            thread.join(timeout=10)
        with self._lock:
            self._thread, self._stopping = None, False

    @property
    def is_alive(self) -> bool:
        """Whether the reading thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def _wake(self) -> None:
        if not self.is_alive:
            self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
            self._thread.start()
        self._lock.notify_all()

    def _run(self) -> None:
        next_overview = 0.0
        while True:
            with self._lock:
                while not self._stopping and not self._watchers and not self._overview:
                    self._shown.clear()
                    self._lock.wait()
                if self._stopping:
                    break
            began = time.monotonic()
            try:
                mail = self._read_events()
                if began >= next_overview:
                    self._read_overview(mail)
                    next_overview = began + OVERVIEW_TICK
                _deliver(mail)
            except DatabaseError:
                log.exception("The live events could not be read; trying again in a second.")
                close_old_connections()
                time.sleep(1)
            time.sleep(max(0.005, TICK - (time.monotonic() - began)))
        connection.close()

    def _read_events(self) -> dict[Client, list[Batch]]:
        """New events of the watched jobs, by the clients that watch them."""
        with self._lock:
            cursors = list(self._cursors.items())
        mail: dict[Client, list[Batch]] = {}
        for start in range(0, len(cursors), MOST_JOBS):
            for batch in read_batches(advanced(cursors[start : start + MOST_JOBS])):
                assert batch.job is not None
                with self._lock:
                    if batch.job in self._cursors:
                        self._cursors[batch.job] = batch.last
                    clients = list(self._watchers.get(batch.job, ()))
                for client in clients:
                    mail.setdefault(client, []).append(batch)
        return mail

    def _read_overview(self, mail: dict[Client, list[Batch]]) -> None:
        """Add to ``mail`` the jobs that changed since the last look; everything for newcomers."""
        with self._lock:
            clients, newcomers = set(self._overview), set(self._newcomers)
            self._newcomers -= newcomers
        if not clients:
            self._shown.clear()
            return
        now = _overview(self._shown.keys())
        changed = [frame for key, frame in now.items() if self._shown.get(key) != frame]
        gone = [key for key in self._shown if key not in now]
        changed += [orjson.dumps({"seq": None, "topic": "*", "t": "gone", "job": str(key)}) for key in gone]
        everything = list(now.values())
        # Jobs that have ended are shown once more and then forgotten.
        self._shown = {key: frame for key, frame in now.items() if b'"live":true' in frame}
        for client in clients:
            frames = everything if client in newcomers else changed
            if frames:
                mail.setdefault(client, []).append(Batch(None, 0, 0, frames))


def advanced(cursors: list[tuple[UUID, int]]) -> list[tuple[UUID, int]]:
    """Those of ``cursors`` whose job has newer events. The look that is taken 40 times a second: one bare
    query by primary key, an order of magnitude cheaper than the same through the ORM."""
    if not cursors:
        return []
    key = Job._meta.pk.get_db_prep_value
    by_key = {key(job, connection): (job, cursor) for job, cursor in cursors}
    marks = ",".join(["%s"] * len(by_key))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, last_seq FROM {Job._meta.db_table} WHERE id IN ({marks})", list(by_key))  # noqa: S608 - marks only
        return [by_key[pk] for pk, last in cursor.fetchall() if last > by_key[pk][1]]


def read_batches(cursors: list[tuple[UUID, int]]) -> list[Batch]:
    """The events after each job's cursor, in one query, at most ``MOST_ROWS`` of them."""
    wanted = Q()
    for job, cursor in cursors:
        wanted |= Q(job_id=job, seq__gt=cursor)
    batches: list[Batch] = []
    rows: list[JobEvent] = []
    for event in JobEvent.objects.filter(wanted).order_by("job_id", "seq")[:MOST_ROWS] if cursors else ():
        if rows and rows[0].job_id != event.job_id:
            batches.append(_batch(rows))
            rows = []
        rows.append(event)
    return [*batches, _batch(rows)] if rows else batches


def _batch(rows: list[Any]) -> Batch:
    return Batch(rows[0].job_id, rows[0].seq, rows[-1].seq, [orjson.dumps(event.frame()) for event in rows])


def _overview(shown: Iterable[UUID]) -> dict[UUID, bytes]:
    """The frame of each job that lives, ended just now, or was shown before and is not in the trash."""
    recent = timezone.now() - timedelta(seconds=2)
    wanted = Q(state__in=[*ACTIVE, JobState.QUEUED]) | Q(ended_at__gte=recent) | Q(pk__in=list(shown)[:MOST_ROWS])
    frames = {}
    for row in Job.objects.present().filter(wanted).order_by("-number").values(*OVERVIEW_COLUMNS)[:MOST_ROWS]:
        job = row.pop("id")
        live = row["state"] in ACTIVE or row["state"] == JobState.QUEUED
        frames[job] = orjson.dumps({"seq": None, "topic": "*", "t": "state", "job": str(job), "live": live, **row})
    return frames


def _deliver(mail: dict[Client, list[Batch]]) -> None:
    """Hand the batches over, with one call per event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Client, list[Batch]]]] = {}
    for client, batches in mail.items():
        loops.setdefault(client.loop, []).append((client, batches))
    for loop, letters in loops.items():
        try:
            loop.call_soon_threadsafe(_put_all, letters)
        except RuntimeError:  # the loop is closed: its clients are gone
            continue


def _put_all(letters: list[tuple[Client, list[Batch]]]) -> None:
    for client, batches in letters:
        client.put(batches)


#: The one of this process.
hub = Hub()
