"""Event to browser: journal line written → websocket frame read, over the real web process and the real ingest.

    python -m tests.bench.live [--sockets 50] [--rate 20] [--seconds 15] [--kill]

One process writes a journal as the engine does, one ingests it, one is the web server (uvicorn); this
one holds the sockets. With ``--kill`` web and ingest are killed with SIGKILL twice on the way and every
socket must have read each event exactly once and in order. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import websockets

NO_JOB = "00000000-0000-4000-8000-000000000000"
ROOT = Path(__file__).resolve().parents[2]

SETUP = """
import django; django.setup()
import sys, uuid
from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from mlxplatform.core.access import Role, make_user
from training.models import Attempt, Job
user = make_user("bench", Role.EDITOR, "bench password")
session = SessionStore()
session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
job = Job.objects.create(number=1, name="bench", state="running", fence=1, total_steps=10**6)
attempt = Attempt.objects.create(job=job, n=1, fence=1, state="running")
attempt.folder.prepare(1)
print(session.session_key, job.pk, attempt.folder.journal)
"""

INGEST = """
import django; django.setup()
import time
from training.ingest import Tail
from training.models import Attempt
from training.watch import TICK
tail = Tail(Attempt.objects.select_related("job").get())
while True:
    if not tail.pull():
        time.sleep(TICK)
"""

WRITER = """
import sys, time
from pathlib import Path
from training.engine.run.journal import Journal
path, rate, total = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
journal = Journal(path)
began = time.monotonic()
for n in range(1, total + 1):
    time.sleep(max(0.0, began + n / rate - time.monotonic()))
    journal.write("log", level="info", message=f"{n} {time.monotonic():.6f}")
"""


class Watcher:
    """One browser: subscribes with its last seq, drops nothing, connects again when it is cut off."""

    def __init__(self, url: str, origin: str, cookie: str, job: str) -> None:
        self.url, self.origin, self.cookie, self.job = url, origin, cookie, job
        self.seen: list[int] = []
        self.lags: list[float] = []
        self.last = 0
        self.reconnects = 0
        self.ready = asyncio.Event()

    async def run(self, until: int) -> None:
        """Read until event ``until``."""
        headers = {"Cookie": f"mlxp_session={self.cookie}"}
        while self.last < until:
            try:
                async with websockets.connect(
                    self.url,
                    origin=self.origin,
                    additional_headers=headers,
                    compression=None,  # type: ignore[arg-type]
                ) as connection:
                    await connection.send(json.dumps({"subscribe": {self.job: self.last, NO_JOB: 0}}))
                    while self.last < until:
                        self._read(json.loads(await connection.recv()))
            except (OSError, websockets.WebSocketException):
                self.reconnects += 1
                await asyncio.sleep(random.uniform(0.05, 0.3))

    def _read(self, frames: list[dict[str, Any]]) -> None:
        now = time.monotonic()
        for frame in frames:
            if frame.get("t") == "gone":  # the answer for a job that is not there: the one before was understood
                self.ready.set()
            if frame.get("t") != "log":
                continue
            n, written = frame["message"].split()
            self.seen.append(int(n))
            self.lags.append(now - float(written))
            self.last = frame["seq"]


class Stage:
    """The processes of one run, in a data folder of their own."""

    def __init__(self, home: Path) -> None:
        self.env = {**os.environ, "MLXP_HOME": str(home), "DJANGO_SETTINGS_MODULE": "mlxplatform.settings",
                    "PYTHONPATH": str(ROOT)}  # fmt: skip
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.listener.set_inheritable(True)
        self.port = self.listener.getsockname()[1]

    def python(self, code: str, *args: str) -> list[str]:
        """Command line of a piece of Python."""
        return [sys.executable, "-c", code, *args]

    def setup(self) -> tuple[str, str, str]:
        """Session key, job id and journal."""
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=self.env, check=True)
        out = subprocess.run(self.python(SETUP), cwd=ROOT, env=self.env, check=True, capture_output=True, text=True)
        key, job, journal = out.stdout.split()
        return key, job, journal

    def start(self, name: str) -> None:
        """Start ``web`` or ``ingest``, again if need be."""
        fd = self.listener.fileno()
        web = [sys.executable, "-m", "uvicorn", "mlxplatform.asgi:application", "--fd", str(fd), "--ws",
               "websockets-sansio", "--lifespan", "off", "--log-level", "warning",
               "--ws-per-message-deflate", "false"]  # fmt: skip
        command = web if name == "web" else self.python(INGEST)
        self.children[name] = subprocess.Popen(command, cwd=ROOT, env=self.env, pass_fds=[fd])

    def write(self, journal: str, rate: float, total: int) -> subprocess.Popen[bytes]:
        """Start the writer."""
        child = subprocess.Popen(self.python(WRITER, journal, str(rate), str(total)), cwd=ROOT, env=self.env)
        self.children["writer"] = child
        return child

    def kill(self, name: str) -> None:
        """SIGKILL, then start it again."""
        self.children[name].send_signal(signal.SIGKILL)
        self.children[name].wait()
        self.start(name)

    def close(self) -> None:
        """End everything."""
        for child in self.children.values():
            child.kill()
            child.wait()
        self.listener.close()


async def measure(stage: Stage, sockets: int, rate: float, seconds: float, kill: bool) -> dict[str, Any]:
    """One run: what all sockets have seen, and how late."""
    key, job, journal = stage.setup()
    stage.start("web")
    stage.start("ingest")
    origin = f"http://127.0.0.1:{stage.port}"
    watchers = [Watcher(f"ws://127.0.0.1:{stage.port}/ws/live/", origin, key, job) for _ in range(sockets)]
    total = int(rate * seconds)
    tasks = [asyncio.create_task(w.run(total)) for w in watchers]
    for watcher in watchers:
        await asyncio.wait_for(watcher.ready.wait(), 60)
    early = sum(w.reconnects for w in watchers)
    stage.write(journal, rate, total)
    if kill:
        for share in (0.2, 0.4, 0.6, 0.8):
            await asyncio.sleep(seconds * 0.2)
            await asyncio.to_thread(stage.kill, "web" if share in (0.2, 0.6) else "ingest")
    await asyncio.wait_for(asyncio.gather(*tasks), seconds * 2 + 60)
    lags = sorted(lag for w in watchers for lag in w.lags)
    wanted = list(range(1, total + 1))
    return {
        "sockets": sockets,
        "events_per_second": rate,
        "events": total,
        "kills": 4 if kill else 0,
        "exact": sum(w.seen == wanted for w in watchers),
        "reconnects": sum(w.reconnects for w in watchers) - early,
        "p50_ms": round(lags[len(lags) // 2] * 1000, 1),
        "p99_ms": round(lags[int(len(lags) * 0.99)] * 1000, 1),
        "max_ms": round(lags[-1] * 1000, 1),
    }


def run(sockets: int = 50, rate: float = 20, seconds: float = 15, kill: bool = False) -> dict[str, Any]:
    """One measurement in a fresh data folder."""
    with tempfile.TemporaryDirectory(prefix="mlxp-bench-") as home:
        stage = Stage(Path(home))
        try:
            return asyncio.run(measure(stage, sockets, rate, seconds, kill))
        finally:
            stage.close()


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=50)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--kill", action="store_true")
    print(json.dumps(run(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
