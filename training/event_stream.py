"""A job's events as server-sent events, exact over reconnects by ``Last-Event-ID``."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
from django.http import HttpRequest

from mlxplatform.core.access import Role, allows
from mlxplatform.core.errors import NotFound, TooMuch
from mlxplatform.core.models import ApiToken
from training.models import Job
from training.states import ENDED
from training.streams import Feed, in_thread

HEARTBEAT = 15.0  # seconds
MOST_STREAMS = 64  # of one person

_open: dict[Any, int] = {}


async def stream(request: HttpRequest, job_id: UUID, since: int) -> AsyncIterator[bytes]:
    """The stream's pieces. Raises NotFound and TooMuch before the first."""
    user: Any = request.user
    if await in_thread(_where, user, job_id) is None:
        raise NotFound("job.unknown", "There is no such job.", "See /api/v1/jobs.")
    if _open.get(user.pk, 0) >= MOST_STREAMS:
        raise TooMuch("streams.too_many", f"You have {MOST_STREAMS} event streams open.", "Close some.")
    return _frames(user, job_id, since, getattr(request, "auth", None), request.session)


async def _frames(user: Any, job: UUID, since: int, auth: Any, session: Any) -> AsyncIterator[bytes]:
    _open[user.pk] = _open.get(user.pk, 0) + 1
    feed = Feed(user)
    try:
        yield b": the events of one job\n\n"
        async for page in feed.watch(job, since):
            yield b"".join(_event(frame) for frame in page)
        checked = time.monotonic()
        while not feed.client.overflowed:
            where = await in_thread(_where, user, job)
            if where is None:
                return
            if time.monotonic() - checked >= HEARTBEAT:
                checked = time.monotonic()
                if not await in_thread(_still_welcome, user, auth, session):
                    return
            state, last = where
            if state in ENDED and feed.cursors.get(job, 0) >= last:
                yield b"event: end\ndata: " + orjson.dumps({"job": str(job), "state": state}) + b"\n\n"
                return
            frames = await feed.join(await feed.client.take(HEARTBEAT))
            yield b"".join(_event(frame) for frame in frames) if frames else b": still here\n\n"
    finally:
        feed.close()
        _open[user.pk] -= 1
        if not _open[user.pk]:
            del _open[user.pk]


def _event(frame: bytes) -> bytes:
    values = orjson.loads(frame)
    mark = b"" if values["seq"] is None else b"id: %d\n" % values["seq"]
    return mark + b"event: " + str(values["t"]).encode() + b"\ndata: " + frame + b"\n\n"


def _where(user: Any, job: UUID) -> tuple[str, int] | None:
    """State and last seq, if the job is there for this person."""
    found: tuple[str, int] | None = Job.objects.visible_to(user).filter(pk=job).values_list("state", "last_seq").first()
    return found


def _still_welcome(user: Any, auth: Any, session: Any) -> bool:
    """Whether person and token, or session, are still good."""
    user.refresh_from_db()
    if isinstance(auth, ApiToken):
        auth.refresh_from_db()
        welcome = auth.is_live
    else:
        welcome = session.exists(session.session_key)
    return welcome and allows(user, Role.VIEWER)
