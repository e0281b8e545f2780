"""Starts one trainer as a process of its own and measures it from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 1800.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended."""

    code: int
    began: float
    """UTC seconds since the epoch when it was started."""
    peak_gib: float
    """Its high-water mark of resident memory."""
    others: float
    """Share of the machine's processors that other programs took meanwhile, 0 to 1."""
    output: str
    """The last 4000 characters that it wrote."""


def run(
    command: list[str], log: Path, environment: Mapping[str, str], enough: Callable[[], bool] | None = None
) -> Ended:
    """Run ``python <command>`` to its end. When ``enough`` says so it is asked to end by SIGTERM."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as file:
        began, since, busy = time.time(), time.monotonic(), _busy_s()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=dict(environment), stdout=file, stderr=subprocess.STDOUT
        )
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, enough, ended), daemon=True)
    watcher.start()
    try:
        # wait4 and not wait: the kernel hands out a child's memory only together with its end.
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()  # whoever interrupts the bench wants its machine back
        raise
    finally:
        ended.set()
        watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    elsewhere = _busy_s() - busy - usage.ru_utime - usage.ru_stime
    others = max(0.0, elsewhere / ((time.monotonic() - since) * (os.cpu_count() or 1)))
    unit = 1 if sys.platform == "darwin" else 1024
    text = log.read_text(errors="replace")[-4000:]
    return Ended(process.returncode, began, usage.ru_maxrss * unit / (1 << 30), others, text)


def _busy_s() -> float:
    """Seconds that all processors of the machine together have computed since it was started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "steal", 0.0)


def _watch(pid: int, enough: Callable[[], bool] | None, ended: threading.Event) -> None:
    end = time.monotonic() + PATIENCE_S
    while not ended.wait(0.25):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            return
        if enough is not None and enough():
            os.kill(pid, signal.SIGTERM)
            return


def end_on_sigterm() -> None:
    """Let SIGTERM end the bench as Ctrl-C does, its child included."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def environment(**extra: str) -> dict[str, str]:
    """This process's, without what would make a child compute differently from one started by hand."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}, **extra}
