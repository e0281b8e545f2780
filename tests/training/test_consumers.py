"""The live socket: who gets in, what may be said, and what comes."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID, uuid4

import pytest
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.test import Client

from mlxplatform.asgi import application
from mlxplatform.core.access import Role, make_user
from tests.training.runs import make_job
from tests.training.test_hub import aside, tell
from training import consumers
from training.consumers import parse, same_origin
from training.hub import Batch, hub

pytestmark = pytest.mark.django_db(transaction=True)
HOST = "localhost:8500"


@pytest.fixture(autouse=True)
def no_thread():
    yield
    hub.stop()
    consumers._open.clear()


def sign_in(role: str = Role.VIEWER, name: str = "vi") -> str:
    """The session cookie of a new person."""
    client = Client()
    client.force_login(make_user(name, Role(role)))
    return client.cookies[settings.SESSION_COOKIE_NAME].value


class Line(ApplicationCommunicator):
    """A browser's end of a socket. (Channels' own needs daphne.)"""

    async def connect(self) -> bool:
        await self.send_input({"type": "websocket.connect"})
        return (await self.receive_output(10))["type"] == "websocket.accept"

    async def say(self, text: str) -> None:
        await self.send_input({"type": "websocket.receive", "text": text})

    async def hear(self, count: int) -> list[dict]:
        """The next ``count`` frames."""
        found: list[dict] = []
        while len(found) < count:
            found += json.loads((await self.receive_output(10))["text"])
        return found

    async def closed(self) -> int:
        """The code with which the server closes."""
        while (message := await self.receive_output(10))["type"] != "websocket.close":
            continue
        return message["code"]

    async def leave(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(10)


def socket(cookie: str = "", origin: str = f"http://{HOST}", path: str = "/ws/live/") -> Line:
    headers = [(b"host", HOST.encode()), (b"origin", origin.encode())]
    if cookie:
        headers.append((b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode()))
    scope = {"type": "websocket", "path": path, "scheme": "ws", "query_string": b"", "headers": headers}
    return Line(application, scope)


async def opened(cookie: str) -> Line:
    line = socket(cookie)
    assert await line.connect()
    return line


async def test_replay_and_live_frames_come_in_order() -> None:
    cookie, job = await aside(sign_in), await aside(make_job)
    await aside(tell, job, "a", "b")
    line = await opened(cookie)
    await line.say(json.dumps({"subscribe": {str(job.pk): 1}}))
    first = await line.hear(1)
    await aside(tell, job, "<b>c</b>")
    seen = first + await line.hear(1)
    assert [(f["seq"], f["t"], f["message"]) for f in seen] == [(2, "log", "b"), (3, "log", "<b>c</b>")]
    await line.leave()


async def test_unsubscribed_jobs_are_silent() -> None:
    cookie, job = await aside(sign_in), await aside(make_job)
    line = await opened(cookie)
    await line.say(json.dumps({"subscribe": {str(job.pk): 0, str(uuid4()): 0}}))
    assert (await line.hear(1))[0]["t"] == "gone"
    await line.say(json.dumps({"unsubscribe": [str(job.pk)], "subscribe": {str(uuid4()): 0}}))
    await line.hear(1)
    await aside(tell, job, "a")
    assert await line.receive_nothing(0.3)
    await line.leave()


async def test_the_overview_can_be_joined_and_left() -> None:
    cookie, job = await aside(sign_in), await aside(make_job)
    line = await opened(cookie)
    await line.say('{"subscribe": {"*": 0}}')
    (frame,) = await line.hear(1)
    assert (frame["topic"], frame["t"], frame["job"]) == ("*", "state", str(job.pk))
    await line.say('{"unsubscribe": ["*"]}')
    await aside(lambda: type(job).objects.update(name="other"))
    assert await line.receive_nothing(0.4)
    await line.leave()


async def test_a_stranger_is_told_so() -> None:
    line = socket()
    assert await line.connect()
    assert await line.closed() == 4401


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://localhost:9999", "https://localhost:8500", "null", "", "http://localhost"]
)
async def test_another_origin_is_forbidden(origin) -> None:
    line = socket(await aside(sign_in), origin)
    await line.connect()
    assert await line.closed() == 4403


async def test_an_account_without_role_is_forbidden() -> None:
    cookie = await aside(sign_in)
    await aside(lambda: Group.objects.all().delete())
    line = socket(cookie)
    await line.connect()
    assert await line.closed() == 4403


async def test_sign_out_closes_the_socket() -> None:
    cookie = await aside(sign_in)
    line = await opened(cookie)

    def leave() -> None:
        client = Client()
        client.cookies[settings.SESSION_COOKIE_NAME] = cookie
        client.logout()

    await aside(leave)
    assert await line.closed() == 4401


async def test_an_ended_session_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(consumers, "RECHECK", 0.1)
    line = await opened(await aside(sign_in))
    await aside(lambda: Session.objects.all().delete())
    assert await line.closed() == 4401


async def test_a_quiet_line_beats(monkeypatch) -> None:
    monkeypatch.setattr(consumers, "RECHECK", 0.1)
    line = await opened(await aside(sign_in))
    assert await line.hear(1) == [{"t": "beat"}]
    await line.leave()


async def test_one_person_has_so_many_sockets(monkeypatch) -> None:
    monkeypatch.setattr(consumers, "MOST_SOCKETS", 1)
    cookie = await aside(sign_in)
    first, second = await opened(cookie), socket(cookie)
    await second.connect()
    assert await second.closed() == 4429
    await first.leave()
    await (await opened(cookie)).leave()


async def test_a_slow_reader_is_cut_off() -> None:
    line = await opened(await aside(sign_in))
    while not consumers._open:
        await asyncio.sleep(0.01)
    (consumer,) = next(iter(consumers._open.values()))
    consumer.feed.client.put([Batch(None, 0, 0, [b"{}"] * 1001)])
    assert await line.closed() == 4408


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"x": 1}', '{"subscribe": {"1": 0}}', '{"subscribe": []}', '{"unsubscribe": [1]}',
     json.dumps({"subscribe": {str(UUID(int=7)): -1}}), json.dumps({"subscribe": {str(UUID(int=7)): True}}),
     "[" * 10_000, "x" * (1 << 15)],
)  # fmt: skip
async def test_nonsense_closes_the_socket(text) -> None:
    line = await opened(await aside(sign_in))
    await line.say(text)
    assert await line.closed() == 4400


def test_too_many_jobs_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 100"):
        parse(json.dumps({"subscribe": {str(uuid4()): 0 for _ in range(60)}}), watched=50)


@pytest.mark.parametrize(("host", "good"), [("[::1]:8500", True), ("127.0.0.1:8500", True), ("evil.example", False)])
def test_the_host_must_be_ours(host, good) -> None:
    headers = [(b"host", host.encode()), (b"origin", f"http://{host}".encode())]
    assert same_origin({"headers": headers, "scheme": "ws"}) is good


async def test_other_socket_paths_are_refused() -> None:
    assert not await socket(path="/ws/other/").connect()
