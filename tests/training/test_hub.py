"""The hub's thread, and what a reader makes of its frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import orjson
import pytest
from django.db import connection

from mlxplatform.core.access import Role, make_user
from tests.training.runs import make_job
from training.hub import MOST_WAITING, Batch, Client, advanced, hub, read_batches
from training.models import Job, JobEvent
from training.states import JobState
from training.streams import Feed

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_thread() -> object:
    yield
    hub.stop()


def tell(job: Job, *words: str) -> None:
    JobEvent.objects.append(job.pk, [("log", {"message": word}) for word in words])


def seqs(frames: list[bytes]) -> list[int]:
    return [orjson.loads(frame)["seq"] for frame in frames]


async def aside(function, *args):
    """Run database work in another thread and close its connection."""

    def work():
        try:
            return function(*args)
        finally:
            connection.close()

    return await asyncio.to_thread(work)


async def replay(feed: Feed, job: Job, since: int = 0) -> list[bytes]:
    return [frame async for page in feed.watch(job.pk, since) for frame in page]


async def live(feed: Feed, count: int) -> list[bytes]:
    """The next ``count`` frames."""
    frames: list[bytes] = []
    while len(frames) < count:
        frames += await feed.join(await asyncio.wait_for(feed.client.take(), 10))
    return frames


@pytest.fixture
async def feed() -> AsyncIterator[Feed]:
    user = await aside(make_user, "vi", Role.VIEWER)
    reader = Feed(user)
    yield reader
    reader.close()


def test_only_jobs_with_news_are_read() -> None:
    quiet, busy = make_job(), make_job()
    tell(busy, "a", "b")
    assert advanced([(quiet.pk, 0), (busy.pk, 0)]) == [(busy.pk, 0)]
    (batch,) = read_batches([(busy.pk, 1)])
    assert (batch.job, batch.first, batch.last) == (busy.pk, 2, 2)


async def test_replay_then_live_is_exact(feed) -> None:
    job = await aside(make_job)
    await aside(tell, job, "a", "b")
    assert seqs(await replay(feed, job, 1)) == [2]
    await aside(tell, job, "c", "d")
    assert seqs(await live(feed, 2)) == [3, 4]


async def test_a_hole_is_filled_from_the_rows(feed) -> None:
    job = await aside(make_job)
    await aside(tell, job, *"abcdef")
    feed.cursors[job.pk] = 2
    (batch,) = await aside(read_batches, [(job.pk, 4)])
    assert seqs(await feed.join([batch])) == [3, 4, 5, 6]


async def test_doubles_are_dropped(feed) -> None:
    job = await aside(make_job)
    await aside(tell, job, *"abcd")
    (batch,) = await aside(read_batches, [(job.pk, 0)])
    feed.cursors[job.pk] = 3
    assert seqs(await feed.join([batch, batch])) == [4]


async def test_events_while_the_replay_runs_are_neither_lost_nor_doubled(feed) -> None:
    job = await aside(make_job)
    await aside(tell, job, *"abc")
    seen: list[bytes] = []
    async with feed.turn:
        async for page in feed.watch(job.pk, 0):
            await aside(tell, job, "while")  # after the page was read, before the hub is joined on
            seen += page
    seen += await live(feed, 1)
    assert seqs(seen) == [1, 2, 3, 4]


async def test_a_second_reader_does_not_disturb_the_first(feed) -> None:
    job = await aside(make_job)
    await replay(feed, job)
    other = Feed(feed._user)
    await aside(tell, job, "a")
    assert seqs(await replay(other, job)) == [1]
    other.close()
    await aside(tell, job, "b")
    assert seqs(await live(feed, 2)) == [1, 2]


async def test_a_pruned_cursor_gets_a_snapshot(feed) -> None:
    job = await aside(make_job)
    await aside(tell, job, *"abcd")
    await aside(lambda: Job.objects.filter(pk=job.pk).update(pruned_to=3))
    (frame,) = map(orjson.loads, await replay(feed, job, 1))
    assert (frame["t"], frame["seq"], frame["state"]) == ("snapshot", 4, "queued")


async def test_an_unknown_job_is_gone(feed) -> None:
    (frame,) = [frame async for page in feed.watch(uuid4(), 0) for frame in page]
    assert orjson.loads(frame)["t"] == "gone"


async def test_the_overview_tells_of_every_change(feed) -> None:
    job = await aside(make_job)
    feed.watch_overview()
    first = orjson.loads((await live(feed, 1))[0])
    assert (first["topic"], first["job"], first["state"]) == ("*", str(job.pk), "queued")
    await aside(lambda: Job.objects.filter(pk=job.pk).update(state=JobState.SUCCEEDED))
    assert orjson.loads((await live(feed, 1))[0])["state"] == "succeeded"


async def test_an_unread_client_is_given_up() -> None:
    called: list[bool] = []
    client = Client(lambda: called.append(True))
    client.put([Batch(None, 0, 0, [b"{}"] * (MOST_WAITING + 1))])
    assert called == [True]
    assert client.overflowed


async def test_the_thread_starts_with_the_first_reader_and_stops(feed) -> None:
    assert not hub.is_alive
    await replay(feed, await aside(make_job))
    assert hub.is_alive
    await aside(hub.stop)
    assert not hub.is_alive
