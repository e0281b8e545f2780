"""The worker process: Huey's consumer as doorbell, and the supervisor with its threads.

One worker works on a data folder at a time; a second one waits until the first is gone. SIGINT, SIGTERM and
SIGHUP drain: every engine saves and ends, and its job goes on at the next start. The same again leaves at
once; engines then go on by themselves and are adopted by the next worker.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Any

from django.conf import settings
from huey.consumer import Consumer
from huey.contrib.djhuey import HUEY

from mlxplatform.core.env import env
from mlxplatform.core.lifeline import follow_parent
from training.alive import sign_on
from training.supervisor import Supervisor

log = logging.getLogger(__name__)

TICK = 0.1  # seconds until a signal is answered, at most
LOOK_AGAIN = 0.25  # seconds between two looks whether the other worker has ended
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Doorbell(Consumer):
    """Huey's consumer without its own signal handling."""

    def _set_signal_handlers(self) -> None:
        """Signals belong to :class:`Worker`."""


class Worker:
    """One process that runs jobs."""

    def __init__(self) -> None:
        # A plain number: a handler runs between two steps of the main thread, which may hold an Event's lock just then.
        self._signals = 0

    def run(self, lifeline: int | None = None) -> int:
        """Work until a signal comes; returns the exit status. ``lifeline``: see :mod:`mlxplatform.core.lifeline`."""
        os.umask(0o077)  # runs, models and the queue are for their owner only
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        if lifeline is not None:
            follow_parent(lifeline)
        lock = self._only_one()
        if lock is None:
            return 0
        _private_queue()
        supervisor = Supervisor()
        supervisor.start()
        options: Any = settings.HUEY["consumer"]
        doorbell = Doorbell(HUEY, **options)
        doorbell.start()
        log.info("The worker runs (process %s).", os.getpid())
        while not self._signals:
            time.sleep(TICK)
        status = self._drain(supervisor, doorbell)
        log.info("The worker ends.")
        return status

    def _only_one(self) -> int | None:
        """The data folder's worker lock, waited for; None when asked to end meanwhile."""
        tries = 0
        while (lock := sign_on()) is None:
            tries += 1
            if tries == 4:  # a page that looks whether a worker lives holds the lock for an instant
                log.warning("Another worker works on %s; this one waits until it has ended.", settings.HOME)
            time.sleep(LOOK_AGAIN)
            if self._signals:
                return None
        return lock

    def _drain(self, supervisor: Supervisor, doorbell: Consumer) -> int:
        doorbell.stop_flag.set()
        if supervisor.watched:
            log.info("Saving %s running job(s); they go on at the next start.", supervisor.watched)
        done = threading.Event()

        def drain() -> None:
            supervisor.stop()
            done.set()

        threading.Thread(target=drain, name="drain", daemon=True).start()
        while not done.wait(0.1):
            if self._signals > 1:
                log.warning("Leaving at once; the engines go on by themselves.")
                return 1
        return 0

    def _on_signal(self, *_: Any) -> None:
        self._signals += 1


def _private_queue() -> None:
    """Whoever can write the queue's file runs code as the worker: keep it to the owner."""
    folder = env().home
    for path in folder.glob("huey.sqlite3*"):
        path.chmod(0o600)
