"""One rank of a distributed training: a session without a run folder of its own.

Rank 0 sends its events to the captain through a named pipe, and the captain writes them into the journal; the
others are silent and print only the reason of their failure. A rank hears SIGUSR1, by which the captain asks for
a stop, and ends by itself when the captain is gone. No MLX here: :func:`run` loads it when the signals are set.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from training.engine.config.training import TrainConfig, load
from training.engine.errors import Exit
from training.engine.run.rundir import RunDir
from training.engine.run.session import Session, Writer

#: Imported when the rank begins: this module is read where there are no arrays.
WORKSHOP = ("loop.distributed", "commands.train")
STOP = signal.SIGUSR1
#: Begins the line in which a rank other than the first prints why it failed.
FAILED = "mlxp-rank-failed "
LOOK_EVERY = 0.5  # seconds between two looks at the captain


class Wire:
    """Rank 0's events, one JSON object per line, on their way to the captain."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY)

    def write(self, event: str, **fields: Any) -> None:
        """Send one event; end at once when nobody reads any more."""
        line = memoryview(json.dumps({"event": event, "fields": fields}, default=str).encode() + b"\n")
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except BrokenPipeError:
            os._exit(Exit.BUG)

    def log(self, message: str, level: str = "info") -> None:
        self.write("log", level=level, message=message)

    def close(self) -> None:
        os.close(self._fd)


class Mute:
    """The other ranks' events: nobody needs them, except the reason of a failure."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def write(self, event: str, **fields: Any) -> None:
        if event == "failed":
            few = {key: str(fields.get(key, ""))[:1000] for key in ("code", "message", "hint", "family", "trace")}
            line = f"\n{FAILED}{json.dumps({'rank': self._rank, **few})}\n"
            os.write(sys.stdout.fileno(), line.encode())  # in one piece: other ranks write there, too

    def log(self, message: str, level: str = "info") -> None:
        """Say nothing."""

    def close(self) -> None:
        """Nothing to close."""


class RankSession(Session):
    """A session of one rank. Only the group as a whole can be stopped; see :class:`distributed.Group`."""

    def __init__(self, run_dir: RunDir, n: int, journal: Writer, *, is_first: bool) -> None:
        self._writer, self._is_first = journal, is_first
        super().__init__(run_dir, run_dir.attempt(n))

    def _take(self, _echo: object) -> Writer:
        """The captain holds the run folder."""
        return self._writer

    def started(self) -> None:
        """The captain has said it."""

    def check(self) -> None:
        """Before the training only rank 0 may end; the others would leave it waiting."""
        if self._is_first:
            super().check()

    def listen(self) -> None:
        signal.signal(STOP, self._on_signal)


def follow(captain: str) -> None:
    """End this process when the captain, ``host:pid``, is gone. On other hosts ssh sees to that."""
    host, _, pid = captain.rpartition(":")
    if host == socket.gethostname():
        threading.Thread(target=_mind, args=(psutil.Process(int(pid)),), name="captain", daemon=True).start()


def _mind(captain: psutil.Process) -> None:
    idle = threading.Event()
    while not idle.wait(LOOK_EVERY):
        try:
            if captain.is_running() and captain.status() != psutil.STATUS_ZOMBIE:
                continue
        except psutil.Error:
            pass
        os._exit(Exit.BUG)


def run(args: argparse.Namespace) -> int:
    """Be the rank that mlx.launch has started here; returns the exit code."""
    # mlx.launch waits for room in this process's input and has it all the time: it would keep a core busy.
    # With the input closed its next write fails and it gives up.
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    follow(args.captain)
    rank = _number()
    _choose_device(args.devices)
    session = RankSession(
        RunDir(args.folder), args.attempt, Wire(args.events) if rank == 0 else Mute(rank), is_first=rank == 0
    )
    session.listen()

    def work(session: Session) -> dict[str, Any]:
        config = load(TrainConfig, args.config)
        distributed, train = (import_module(f"training.engine.{name}") for name in WORKSHOP)
        group = distributed.join(session, config.backend, config.ranks)
        session.journal.write("started")
        result: dict[str, Any] = train.run(config, session, group)
        return result

    return session.run(work)


def _number() -> int:
    """This rank's number, from whatever launched it: MLX, Open MPI, or MPICH and its kin."""
    for name in ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    sys.exit("no rank is given: this command is run by mlx.launch")


def _choose_device(devices: str) -> None:
    """mlx.launch numbers the CUDA devices from 0; ``devices`` are those that this installation may use."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    mine = devices.split(",") if devices else []
    if given.isdigit() and int(given) < len(mine):
        os.environ["CUDA_VISIBLE_DEVICES"] = mine[int(given)]
