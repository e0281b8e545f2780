"""The live client: a state machine against a socket that a test drives, then a real socket that keeps failing."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Page
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

pytestmark = pytest.mark.browser

HARNESS = """async (steps) => {
    const { LiveClient } = await import("/static/js/live.js");
    const said = [], sockets = [], timers = [];
    let clock = 0;
    const env = {
        url: "ws://x", overview: steps[0][0] === "overview",
        connect: () => {
            const socket = { readyState: 0, send: (text) => said.push(["send", JSON.parse(text)]), close: () => {} };
            sockets.push(socket);
            said.push(["connect"]);
            return socket;
        },
        deliver: (frame) => said.push(["frame", frame.seq]),
        status: (word) => said.push(["status", word]),
        random: () => 1, now: () => clock,
        later: (ms, act) => {
            const timer = { at: clock + ms, act };
            timers.push(timer);
            return () => { timer.act = null; };
        },
    };
    const client = new LiveClient(env);
    const run = {
        overview: () => client.connect(),
        follow: (job, seq) => client.follow(job, seq),
        leave: (job) => client.leave(job),
        wake: () => client.wake(),
        open: () => { const s = sockets.at(-1); s.readyState = 1; s.onopen(); },
        get: (message) => sockets.at(-1).onmessage({ data: JSON.stringify(message) }),
        close: (code) => { const s = sockets.at(-1); s.readyState = 3; s.onclose({ code }); },
        wait: (ms) => {
            const end = clock + ms;
            for (;;) {
                const due = timers.filter((t) => t.act && t.at <= end).sort((a, b) => a.at - b.at)[0];
                if (!due) break;
                clock = due.at;
                const act = due.act;
                due.act = null;
                act();
            }
            clock = end;
        },
    };
    for (const [name, ...rest] of steps) run[name](...rest);
    return said;
}"""


def play(script: Page, *steps: tuple[Any, ...]) -> list[list[Any]]:
    """Drive the client through ``steps``; what it said, in order."""
    said: list[list[Any]] = script.evaluate(HARNESS, [list(step) for step in steps])
    return said


def frame(seq: int, kind: str = "metric") -> dict[str, Any]:
    return {"seq": seq, "job": "a", "t": kind}


def seqs(said: list[list[Any]]) -> list[int]:
    return [rest[0] for word, *rest in said if word == "frame"]


START = (("follow", "a", 3), ("open",))


def test_it_asks_from_the_cursor_of_the_page(script: Page) -> None:
    assert play(script, *START) == [["connect"], ["send", {"subscribe": {"a": 3}}], ["status", "live"]]


def test_what_was_seen_is_dropped(script: Page) -> None:
    assert seqs(play(script, *START, ("get", [frame(3), frame(4), frame(4), frame(5)]))) == [4, 5]


def test_another_jobs_frame_is_ignored(script: Page) -> None:
    assert seqs(play(script, *START, ("get", {"seq": 4, "job": "b", "t": "log"}))) == []


def test_a_hole_is_asked_for_and_filled_in_order(script: Page) -> None:
    said = play(script, *START, ("get", frame(6)), ("get", frame(7)), ("get", [frame(4), frame(5)]))
    assert seqs(said) == [4, 5, 6, 7]
    assert said.count(["send", {"subscribe": {"a": 3}}]) == 2


def test_a_hole_that_never_fills_does_not_stop_the_page(script: Page) -> None:
    assert seqs(play(script, *START, ("get", frame(7)), ("get", frame(6)), ("wait", 3000))) == [6, 7]


def test_a_snapshot_moves_the_cursor(script: Page) -> None:
    assert seqs(play(script, *START, ("get", frame(90, "snapshot")), ("get", frame(91)))) == [90, 91]


def test_a_reconnect_goes_on_at_the_last_frame(script: Page) -> None:
    said = play(script, *START, ("get", frame(4)), ("close", 1012), ("wait", 500), ("open",))
    assert said[-2] == ["send", {"subscribe": {"a": 4}}]


def test_the_back_off_doubles_up_to_its_cap(script: Page) -> None:
    steps: list[tuple[Any, ...]] = [("follow", "a", 0)]
    for wait in (500, 1000, 2000, 4000, 8000, 10000, 10000):
        steps += [("close", 1006), ("wait", wait - 1), ("wait", 1)]
    assert play(script, *steps).count(["connect"]) == 8


@pytest.mark.parametrize(("code", "word"), [(4401, "signed-out"), (4403, "forbidden")])
def test_a_refusal_is_final(script: Page, code: int, word: str) -> None:
    said = play(script, *START, ("close", code), ("wait", 60000), ("wake",))
    assert said[-1] == ["status", word]
    assert said.count(["connect"]) == 1


def test_too_slow_means_come_back(script: Page) -> None:
    assert play(script, *START, ("close", 4408), ("wait", 500)).count(["connect"]) == 2


def test_the_chip_comes_after_three_seconds(script: Page) -> None:
    early = play(script, *START, ("close", 1006), ("wait", 2999))
    late = play(script, *START, ("close", 1006), ("wait", 3000))
    assert ["status", "reconnecting"] not in early
    assert ["status", "reconnecting"] in late


def test_waking_does_not_wait_for_the_back_off(script: Page) -> None:
    assert play(script, *START, ("close", 1006), ("wake",)).count(["connect"]) == 2


def test_a_socket_whose_beat_stopped_is_replaced(script: Page) -> None:
    said = play(script, *START, ("wait", 1000), ("get", {"t": "beat"}), ("wait", 30001), ("wake",))
    assert said.count(["connect"]) == 2


def test_leaving_a_job_tells_the_server(script: Page) -> None:
    assert play(script, *START, ("leave", "a"))[-1] == ["send", {"unsubscribe": ["a"]}]


def test_the_states_of_all_jobs_come_without_a_cursor(script: Page) -> None:
    said = play(script, ("overview",), ("open",), ("get", {"seq": 9, "job": "b", "t": "state"}))
    assert said[1] == ["send", {"subscribe": {"*": 0}}]
    assert seqs(said) == [9]


class Unreliable:
    """A server of one job with ``total`` frames: it loses, doubles, bundles and hangs up, but answers a cursor."""

    def __init__(self, total: int) -> None:
        self.total, self.rng, self.connections = total, random.Random(7), 0

    def __call__(self, socket: ServerConnection) -> None:
        self.connections += 1
        with suppress(ConnectionClosed):
            self.serve(socket)

    def serve(self, socket: ServerConnection) -> None:
        cursor = json.loads(socket.recv())["subscribe"]["a"]
        for _ in range(self.rng.randrange(20, 60)):
            with suppress(TimeoutError):  # a hole was seen: start again from the page's cursor
                cursor = json.loads(socket.recv(timeout=0.002))["subscribe"]["a"]
            batch = [frame(cursor + 1 + i) for i in range(min(self.rng.randrange(1, 4), self.total - cursor))]
            cursor += len(batch)
            if batch and (self.rng.random() > 0.1 or cursor == self.total):
                socket.send(json.dumps(batch * self.rng.choice([1, 1, 2])))
        socket.close(self.rng.choice([1012, 4408, 1011]))


@pytest.fixture
def unreliable() -> Iterator[tuple[Unreliable, str]]:
    """The server in a thread of its own, and its address."""
    handler = Unreliable(400)
    with serve(handler, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler, f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()


def test_nothing_is_lost_or_doubled_over_a_failing_socket(script: Page, unreliable: tuple[Unreliable, str]) -> None:
    handler, url = unreliable
    call = """async ([url, total]) => {
        const { LiveClient } = await import("/static/js/live.js");
        const seen = [];
        await new Promise((done) => new LiveClient({
            url, connect: (address) => new WebSocket(address), status: () => {}, random: () => 0.02,
            now: () => performance.now(),
            deliver: (frame) => { seen.push(frame.seq); if (frame.seq === total) done(); },
            later: (ms, act) => { const timer = setTimeout(act, ms); return () => clearTimeout(timer); },
        }).follow("a", 0));
        return seen;
    }"""
    assert script.evaluate(call, [url, handler.total]) == list(range(1, handler.total + 1))
    assert handler.connections > 1
