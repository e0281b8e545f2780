"""The one socket of a page, ``/ws/live/``.

The browser says what it watches: ``{"subscribe": {"<job id>": last_seq, "*": 0}}`` and ``{"unsubscribe":
["<job id>"]}``; it gets JSON arrays of frames ``{seq, job, t, …}``, at most one array per tick. ``*``
stands for the states of all jobs. Close codes: 4400 a message that makes no sense, 4401 signed out,
4403 forbidden, 4408 too slow (connect again with your last seq), 4429 too many sockets; 1012 restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from channels.auth import get_user
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.backends.db import SessionStore

from mlxplatform.core.access import Role, allows
from training.streams import MOST_WATCHED, Feed, in_thread

log = logging.getLogger(__name__)

BAD_MESSAGE, SIGNED_OUT, FORBIDDEN, TOO_SLOW, TOO_MANY = 4400, 4401, 4403, 4408, 4429
RECHECK = 15.0  # seconds between two looks whether the person is still signed in
MOST_SOCKETS = 64  # of one person
MAX_MESSAGE = 16 << 10  # characters
ALL = "*"

#: The open sockets of each person, by user id.
_open: dict[Any, set[JobConsumer]] = {}


class JobConsumer(AsyncWebsocketConsumer):
    """Sends a signed-in person the events of the jobs they watch."""

    feed: Feed | None = None
    user: Any = None

    async def connect(self) -> None:
        """Accept, then close with a code that the page understands: a refused handshake has none."""
        await self.accept()
        self.tasks: list[asyncio.Task[None]] = []
        if not same_origin(self.scope):
            await self.close(FORBIDDEN)
            return
        if refusal := await self._refusal():
            await self.close(refusal)
            return
        mine = _open.setdefault(self.user.pk, set())
        if len(mine) >= MOST_SOCKETS:
            await self.close(TOO_MANY)
            return
        mine.add(self)
        self.feed = Feed(self.user, self._overflow)
        # The references are kept: an event loop forgets tasks that nobody holds.
        # The second look is for a sign-out between the first one and the entry in the list above.
        self.tasks = [asyncio.create_task(task) for task in (self._pump(), self._watch_over(), self._recheck(2.0))]

    async def disconnect(self, code: int) -> None:
        """Let go of everything, whoever closed."""
        for task in self.tasks:
            task.cancel()
        if self.feed is not None:
            self.feed.close()
            mine = _open.get(self.user.pk, set())
            mine.discard(self)
            if not mine:
                _open.pop(self.user.pk, None)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """One message of the browser."""
        if self.feed is None:
            return
        try:
            subscribe, unsubscribe = parse(text_data, len(self.feed.cursors))
        except ValueError as error:
            await self.close(BAD_MESSAGE, str(error)[:120])
            return
        for job in unsubscribe:
            if job == ALL:
                self.feed.unwatch_overview()
            else:
                self.feed.unwatch(job)
        if subscribe.pop(ALL, None) is not None:
            self.feed.watch_overview()
        async with self.feed.turn:
            for job, since in subscribe.items():
                async for frames in self.feed.watch(job, since):
                    await self._send(frames)

    async def _pump(self) -> None:
        """Send what the hub brings, until the socket closes."""
        feed = self.feed
        assert feed is not None
        try:
            while True:
                batches = await feed.client.take()
                async with feed.turn:
                    await self._send(await feed.join(batches))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("A live socket failed; the browser connects again.")
            await self.close(1011)

    async def _send(self, frames: list[bytes]) -> None:
        if frames:
            await self._say((b"[" + b",".join(frames) + b"]").decode())

    async def _say(self, text: str) -> None:
        """Send, unless the browser left in this very moment: ``disconnect`` follows by itself."""
        with contextlib.suppress(OSError):
            await self.send(text_data=text)

    async def _watch_over(self) -> None:
        """Beats, so that the browser knows a dead line from a quiet one; and is the person still signed in?"""
        while True:
            await asyncio.sleep(RECHECK)
            await self.check()
            await self._say('[{"t":"beat"}]')

    async def _recheck(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.check()

    def check_soon(self) -> None:
        """Look twice in the next seconds: the signal comes before the session is flushed."""
        self.tasks.append(asyncio.create_task(self._recheck(0.2)))
        self.tasks.append(asyncio.create_task(self._recheck(2.0)))

    async def check(self) -> None:
        """Close unless the person is still signed in and may look."""
        if refusal := await self._refusal():
            await self.close(refusal)

    async def _refusal(self) -> int | None:
        """The close code that the session deserves as it stands in the database now, None if it is good."""
        session = self.scope.get("session")
        key = session.session_key if session is not None else None
        if not key:
            return SIGNED_OUT
        self.user = await get_user({"session": SessionStore(key)})
        if not self.user.is_authenticated:
            return SIGNED_OUT
        return None if await in_thread(allows, self.user, Role.VIEWER) else FORBIDDEN

    def _overflow(self) -> None:
        """The client reads too slowly: stop sending and close. Called in the event loop."""
        for task in self.tasks:
            task.cancel()
        self.tasks.append(asyncio.create_task(self.close(TOO_SLOW)))


def parse(text: str | None, watched: int = 0) -> tuple[dict[Any, int], list[Any]]:
    """A message as (cursor by job id or ``*``, job ids to leave). Raises ValueError with a sentence."""
    if text is None or len(text) > MAX_MESSAGE:
        raise ValueError("A message is JSON text of at most 16 KiB.")
    try:
        message = json.loads(text)
        asked, left = message.pop("subscribe", {}), message.pop("unsubscribe", [])
        subscribe = {(ALL if key == ALL else UUID(key)): since for key, since in asked.items()}
        unsubscribe = [(ALL if key == ALL else UUID(key)) for key in left]
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise ValueError("Send {subscribe: {job id: last seq}, unsubscribe: [job id]}.") from None
    if message or not all(type(since) is int and 0 <= since < 1 << 53 for since in subscribe.values()):
        raise ValueError("Send {subscribe: {job id: last seq}, unsubscribe: [job id]}.")
    if len(subscribe) + watched > MOST_WATCHED or len(unsubscribe) > MOST_WATCHED:
        raise ValueError(f"One socket watches at most {MOST_WATCHED} jobs.")
    return subscribe, unsubscribe


def same_origin(scope: Any) -> bool:
    """Whether scheme, host and port of the page are those of the request, and the host is one of ours.

    Cookies are shared by all ports of a host, so another local service's page must not get through.
    """
    headers = {name: value.decode("latin-1") for name, value in scope.get("headers", [])}
    host, origin = headers.get(b"host", ""), headers.get(b"origin", "")
    secure = scope.get("scheme") == "wss"
    if settings.SECURE_PROXY_SSL_HEADER is not None:
        secure = secure or headers.get(b"x-forwarded-proto") == "https"
    try:
        name = f"[{h}]" if ":" in (h := urlsplit(f"//{host}").hostname or "") else h
    except ValueError:
        return False
    return origin == f"{'https' if secure else 'http'}://{host}" and name in settings.ALLOWED_HOSTS


def _signed_out(sender: Any, user: Any, **_: Any) -> None:
    """Look at the person's sockets as soon as the sign-out is through."""
    for consumer in list(_open.get(getattr(user, "pk", None), ())):
        if consumer.feed is not None:
            consumer.feed.client.loop.call_soon_threadsafe(consumer.check_soon)


user_logged_out.connect(_signed_out, dispatch_uid="live sockets")
