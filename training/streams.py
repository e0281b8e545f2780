"""The events of jobs, each exactly once and in order, for one reader: a socket or an event stream.

The order of things matters. The reader's place in the hub is taken first, then the rows it has missed
are read, then what the hub sends is joined on: frames it has are dropped, holes are filled from the
rows. Whatever was lost on the way (a hub that started late, a process that died) heals by this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import orjson
from asgiref.sync import sync_to_async
from django.db import close_old_connections

from training.hub import MOST_ROWS, Batch, Client, hub, read_batches
from training.models import Job

MOST_WATCHED = 100  # jobs of one reader
SNAPSHOT_COLUMNS = (
    "number", "name", "state", "reason", "message", "hint", "phase", "progress", "step", "total_steps",
)  # fmt: skip


class Feed:
    """One reader's cursors, one for each job it watches.

    Replay and live frames move the same cursors: whoever sends holds ``turn`` from reading to sending.
    """

    def __init__(self, user: Any, on_overflow: Callable[[], None] | None = None) -> None:
        self.client = Client(on_overflow)
        self.cursors: dict[UUID, int] = {}
        self.turn = asyncio.Lock()
        self._user = user

    async def watch(self, job: UUID, since: int) -> AsyncIterator[list[bytes]]:
        """Begin to watch ``job`` and yield what came after ``since``, page by page.

        An unknown job yields one frame ``gone``. A cursor whose events were pruned, or that is not of
        this database, yields one frame ``snapshot``, whose ``seq`` is the new cursor.
        """
        row = await in_thread(_job_row, self._user, job)
        if row is None:
            yield [orjson.dumps({"seq": None, "job": str(job), "t": "gone"})]
            return
        last, pruned = row["last_seq"], row["pruned_to"]
        if since < pruned or since > last:
            since = last
            yield [_snapshot(job, row)]
        self.unwatch(job)
        self.cursors[job] = since
        hub.watch(self.client, job, last)
        while page := await in_thread(_page, job, self.cursors[job]):
            self.cursors[job] = page.last
            yield page.frames
            if len(page.frames) < MOST_ROWS:
                return

    def watch_overview(self) -> None:
        """Begin to watch the states of all jobs (frames without a cursor)."""
        hub.watch_overview(self.client)

    def unwatch_overview(self) -> None:
        """No more of those."""
        hub.unwatch_overview(self.client)

    def unwatch(self, job: UUID) -> None:
        """No more of this job."""
        if self.cursors.pop(job, None) is not None:
            hub.unwatch(self.client, job)

    def close(self) -> None:
        """No more of anything."""
        hub.leave(self.client)
        self.cursors.clear()

    async def join(self, batches: list[Batch]) -> list[bytes]:
        """The frames that come of what ``client.take`` gave: doubles dropped, holes filled."""
        frames: list[bytes] = []
        for batch in batches:
            frames += await self._joined(batch)
        return frames

    async def _joined(self, batch: Batch) -> list[bytes]:
        """The batch's frames that follow the cursor, with the hole before them filled."""
        if batch.job is None:
            return batch.frames
        missed: list[bytes] = []
        while (last := self.cursors.get(batch.job)) is not None and batch.first > last + 1:
            page = await in_thread(_page, batch.job, last)
            if page is None:
                break
            kept = min(len(page.frames), batch.first - 1 - last)
            missed += page.frames[:kept]
            self.cursors[batch.job] = last + kept
        last = self.cursors.get(batch.job)
        if last is None or batch.last <= last:
            return missed
        self.cursors[batch.job] = batch.last
        return missed + batch.frames[max(0, last + 1 - batch.first) :]


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function that asks the database in a thread of the pool, so that readers do not queue up."""
    return await sync_to_async(_with_connection, thread_sensitive=False)(function, *args)


def _with_connection(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    finally:
        close_old_connections()


def _job_row(user: Any, job: UUID) -> dict[str, Any] | None:
    rows = Job.objects.visible_to(user).filter(pk=job)
    found: dict[str, Any] | None = rows.values("last_seq", "pruned_to", *SNAPSHOT_COLUMNS).first()
    return found


def _page(job: UUID, after: int) -> Batch | None:
    batches = read_batches([(job, after)])
    return batches[0] if batches else None


def _snapshot(job: UUID, row: dict[str, Any]) -> bytes:
    values = {name: row[name] for name in SNAPSHOT_COLUMNS}
    return orjson.dumps({**values, "seq": row["last_seq"], "job": str(job), "t": "snapshot"})
