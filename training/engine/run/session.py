"""One process of the engine at work: its journal, its lock, its ears for signals and for silence.

Knows nothing of training. A command runs inside a :class:`Session`; whatever it raises becomes
exactly one last word in the journal and an exit code.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import psutil

from training.engine import ENGINE_VERSION
from training.engine.errors import ConfigError, EngineError, Exit, MemoryShortage, RankDied, StopAsked, StorageError
from training.engine.run import rundir
from training.engine.run.journal import Event, Journal, last_word
from training.engine.run.rundir import AttemptDir, RunDir

UNWATCHED_S = 600.0
#: What array libraries say when memory is short; their errors have no type of their own.
_MEMORY_WORDS = ("malloc", "out of memory", "bad_alloc", "insufficient memory", "maximum allowed buffer size")


class Writer(Protocol):
    """Where a session's events go: the journal, or from a rank the way to it."""

    def write(self, event: str, **fields: Any) -> None:
        """Append one event."""

    def log(self, message: str, level: str = "info") -> None:
        """Append a line for people."""

    def close(self) -> None:
        """Nothing follows."""


class Session:
    """The engine's side of the run folder. Implements :class:`training.engine.report.Reporter`."""

    def __init__(self, run_dir: RunDir, attempt: AttemptDir, echo: Callable[[Event], None] | None = None) -> None:
        self.run_dir, self.attempt = run_dir, attempt
        self.stopping: StopAsked | None = None
        self._progress: tuple[str, int] = ("", -1)
        self.journal: Writer = self._take(echo)

    def _take(self, echo: Callable[[Event], None] | None) -> Writer:
        """Take the run folder for this process alone, and open its journal. Raises StorageError."""
        run_dir, attempt = self.run_dir, self.attempt
        self._lock = rundir.hold(run_dir.lock)
        if self._lock is None:
            raise StorageError(
                "storage.locked",
                f"Another engine is working in {run_dir.root}.",
                "Wait until it ends, or stop it first.",
            )
        if not attempt.about.exists():
            attempt.prepare(fence=0)  # run by hand; the platform writes it beforehand
        self._refuse_a_second_end()
        try:
            return Journal(attempt.journal, echo)
        except OSError as error:
            raise StorageError(
                "storage.journal",
                f"The journal {attempt.journal} cannot be opened: {error.strerror}.",
                "Give the run folder write permission, then try again.",
            ) from error

    def _refuse_a_second_end(self) -> None:
        """A journal has one last word; whoever wants to go on makes a new attempt."""
        if last_word(self.attempt.journal) is not None:
            raise StorageError(
                "storage.attempt_ended",
                f"Attempt {self.attempt.n} in {self.run_dir.root} has ended already.",
                f"Go on as attempt {self.run_dir.newest_attempt() + 1}, or leave --attempt out.",
            )

    def phase(self, name: str, done: int | None = None, total: int | None = None, detail: str = "") -> None:
        """Say where the work is; repeated calls are thinned out to full percents."""
        percent = int(100 * done / total) if done is not None and total else -1
        if (name, percent) == self._progress and percent >= 0:
            return
        self._progress = (name, percent)
        optional = {"done": done, "total": total, "detail": detail or None}
        self.journal.write("phase", name=name, **{k: v for k, v in optional.items() if v is not None})
        self.check()

    def log(self, message: str, level: str = "info") -> None:
        """One line for people."""
        self.journal.log(message, level)

    def check(self) -> None:
        """Raise StopAsked when somebody asked for an end. Call it between pieces of work."""
        if self.stopping is not None:
            raise self.stopping

    def started(self) -> None:
        """The first event: who this process is, beyond doubt even if its pid is used again."""
        me = psutil.Process()
        self.journal.write(
            "started",
            pid=me.pid,
            pgid=os.getpgid(0),
            process_start=me.create_time(),
            attempt=self.attempt.n,
            fence=self.attempt.fence(),
            host=socket.gethostname(),
            boot_id=boot_id(),
            engine=ENGINE_VERSION,
            python=".".join(map(str, sys.version_info[:3])),
        )

    def listen(self) -> None:
        """Answer SIGTERM and SIGINT with a stop, and notice when nobody watches any more."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        threading.Thread(target=self._mind_the_watcher, name="watched", daemon=True).start()

    def _on_signal(self, number: int, _frame: Any) -> None:
        self.stopping = self.stopping or StopAsked(f"signal {signal.Signals(number).name}", Exit.STOPPED)

    def _mind_the_watcher(self) -> None:
        """Ask for an end after ten minutes in which no worker held ``watch.lock``.

        A run started by hand has no such file and is never unwatched.
        """
        patience = float(os.environ.get("MLXP_UNWATCHED_S", UNWATCHED_S))
        silent = 0.0
        idle = threading.Event()
        while not idle.wait(min(1.0, patience / 4)):
            if self._is_watched():
                silent = 0.0
            elif (silent := silent + min(1.0, patience / 4)) >= patience and self.stopping is None:
                self.stopping = StopAsked(f"nobody watched for {patience:g} s", Exit.UNWATCHED)

    def _is_watched(self) -> bool:
        try:
            return not self.attempt.watch_lock.exists() or rundir.is_held(self.attempt.watch_lock)
        except OSError:
            return True  # a folder that cannot be read says nothing about the watcher

    def run(self, work: Callable[[Session], dict[str, Any]]) -> Exit:
        """Do ``work``; write the last word; return the exit code.

        Raises RankDied, which has no last word.
        """
        try:
            return self._run(work)
        except RankDied:
            raise
        except EngineError as error:
            return self._fail(error)
        except Exception as error:  # the border: whatever it is, it becomes a last word
            return self._fail(_as_engine_error(error), traceback.format_exc())
        finally:
            self.journal.close()

    def _run(self, work: Callable[[Session], dict[str, Any]]) -> Exit:
        self.started()
        try:
            result = work(self)
        except StopAsked as stop:
            self.journal.write("stopped", why=stop.why, exit_code=int(stop.exit_code))
            return stop.exit_code
        self.journal.write("finished", result=result)
        return Exit.FINISHED

    def _fail(self, error: EngineError, trace: str = "") -> Exit:
        problems = [problem.as_dict() for problem in error.problems[:200]]
        trace = trace or error.trace
        with contextlib.suppress(StorageError):  # said on stderr below; the exit code still tells the family
            self.journal.write(
                "failed",
                code=error.code,
                message=error.message,
                hint=error.hint,
                family=error.family,
                trace=trace[-8000:],
                problems=problems,
            )
        with contextlib.suppress(OSError):  # stderr may lie on the full disk, or its reader may be gone
            print(f"{error.message}\n{error.hint}\n{trace}", file=sys.stderr, flush=True)
        return error.exit_code


def _as_engine_error(error: Exception) -> EngineError:
    words = str(error).lower()
    if isinstance(error, MemoryError) or any(word in words for word in _MEMORY_WORDS):
        return MemoryShortage(
            "memory.out",
            "The machine ran out of memory.",
            "Try a smaller micro-batch, shorter sequences, gradient checkpointing or a smaller model.",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError("storage.full", "The disk is full.", "Free some disk space, then resume.")
    return EngineError(
        "bug.engine",
        f"The engine failed unexpectedly: {type(error).__name__}: {error}",
        "This is a fault in the program. The log holds the details; please report it.",
    )


def boot_id() -> str:
    """A name for this boot of the machine, so that a pid of the last boot is not taken for a live one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"boot-{psutil.boot_time():.0f}"


def refuse(error: ConfigError) -> Exit:
    """A configuration that was refused before there was a run folder: say all of it on stderr."""
    for problem in error.problems or []:
        print(f"{'.'.join(map(str, problem.loc))}: {problem.message} {problem.hint}", file=sys.stderr)
    if not error.problems:
        print(str(error), file=sys.stderr)
    return error.exit_code
