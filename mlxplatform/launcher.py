"""The launcher: one command that holds the port and keeps web and worker alive.

Each child has a process group of its own, so that Ctrl-C reaches only the launcher, which then ends them
and waits while the worker saves the running trainings. Each also holds the reading end of a pipe whose other
end only the launcher has: however the launcher goes, they notice.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlxplatform.core.env import ROOT

FIRST_DELAY, LONGEST_DELAY = 0.25, 30.0  # seconds before a dead child is started again
STEADY_AFTER = 30.0  # seconds of life after which earlier deaths are forgotten
MOST_DEATHS = 8  # in a row
WEB_PATIENCE = 6.0  # seconds for open requests
TICK = 0.05  # seconds
#: Not SIGINT: a Python that is still importing may swallow its KeyboardInterrupt, and the wish is lost.
FAREWELL = signal.SIGTERM
DOUBLE = 0.5  # seconds within which a second signal is the same wish, sent to the group and to the process

Say = Callable[[str], None]


@dataclass(slots=True)
class Child:
    """A program that is kept running."""

    name: str
    arguments: list[str]
    descriptors: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    due: float = 0.0  # when to start it (again), monotonic

    def start(self, environment: dict[str, str]) -> None:
        """Start it in a process group of its own. From the main thread: Linux ties a child to its parent's thread."""
        self.process = subprocess.Popen(
            self.arguments,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=self.descriptors,
            process_group=0,
        )
        self.started = time.monotonic()

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to its group; harmless when it is gone."""
        if self.process is not None and self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def note_death(self, now: float) -> None:
        """Settle when it starts again: later each time, unless it had run for long."""
        self.deaths = 1 if now - self.started > STEADY_AFTER else self.deaths + 1
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (self.deaths - 1))
        self.due = now + delay * random.uniform(0.8, 1.2)


class Launcher:
    """Runs until a signal; :meth:`run` returns the exit status."""

    def __init__(self, listener: socket.socket, say: Say, settings: dict[str, str]) -> None:
        self._say = say
        self._environment = {**os.environ, **settings}
        self._reader, self._writer = os.pipe()  # the writer is not inherited
        life = ["--lifeline", str(self._reader)]
        fd = listener.fileno()
        web = [sys.executable, "-m", "mlxplatform.web", "--fd", str(fd), *life]
        worker = [sys.executable, str(ROOT / "manage.py"), "worker", *life]
        self._web = Child("web", web, (fd, self._reader))
        self._worker = Child("worker", worker, (self._reader,))
        # Plain values: a handler runs between two steps of the main thread, which may hold an Event's lock just then.
        self._asked_at: float | None = None
        self._again = False

    @property
    def _children(self) -> tuple[Child, Child]:
        return self._web, self._worker

    def run(self) -> int:
        """Keep the children alive until asked to end; 1 when one of them cannot be kept alive."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        status = 0
        while self._asked_at is None:
            time.sleep(TICK)
            hopeless = next((child for child in self._children if not self._keep(child)), None)
            if hopeless is not None:
                self._say(f"The {hopeless.name} process ended {hopeless.deaths} times in a row; giving up.")
                self._say("What it said stands above. To find out what is wrong: python manage.py doctor")
                status = 1
                break
        self._end()
        return status

    def _keep(self, child: Child) -> bool:
        """Start the child when it is not running; False when that is hopeless."""
        if child.is_alive:
            return True
        now = time.monotonic()
        if child.process is not None:
            code, child.process = child.process.returncode, None
            child.note_death(now)
            if child.deaths >= MOST_DEATHS:
                return False
            self._say(f"The {child.name} process ended ({_how(code)}); it is started again.")
        if now >= child.due:
            child.start(self._environment)
        return True

    def _end(self) -> None:
        """Both are told at once; the worker saves and may take its time."""
        for child in self._children:
            child.signal(FAREWELL)
        began, told = time.monotonic(), False
        while any(child.is_alive for child in self._children):
            if self._again:
                break
            waited = time.monotonic() - began
            if waited > WEB_PATIENCE:
                self._web.signal(signal.SIGKILL)
            if waited > 1.0 and not told and self._worker.is_alive:
                told = True
                self._say("Saving the running jobs; they go on at the next start. Ctrl-C again leaves at once.")
            time.sleep(TICK)
        for child in self._children:
            child.signal(signal.SIGKILL)
            if child.process is not None:
                child.process.wait()
        os.close(self._writer)
        os.close(self._reader)

    def _on_signal(self, *_: Any) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        elif now - self._asked_at > DOUBLE:
            self._again = True


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"status {code}"
