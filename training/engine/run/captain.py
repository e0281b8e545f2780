"""The captain of a distributed training: the process that holds the run folder while others compute.

It starts the ranks by MLX's own ``mlx.launch``, writes into the journal what rank 0 tells, passes a stop on to
all of them, and ends them all when one is gone. It never loads MLX. The ranks belong to its process group, so
whoever kills the group reaches every rank of this machine; those of other machines end with their ssh.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from training.engine.config import hostfile
from training.engine.config.training import TrainConfig
from training.engine.errors import (
    ConfigError,
    DataError,
    Diverged,
    EngineError,
    Exit,
    MemoryShortage,
    ModelError,
    Problem,
    RankDied,
    StopAsked,
    StorageError,
)
from training.engine.machine import blas
from training.engine.run.journal import LAST_WORDS
from training.engine.run.rank import FAILED, STOP
from training.engine.run.session import Session

MEETING_S = 300.0  # seconds in which all ranks must have met
PARTING_S = 5.0  # seconds in which the other ranks may end by themselves once one has
REPEAT_S = 1.0  # seconds between two calls to stop: a rank that is just starting hears none
PORTS = range(20_000, 32_000)  # below those that the system gives to outgoing connections
PEER_LOST = "distributed.peer_lost"  # the echo of another rank's end, never its cause
_DEATH = re.compile(rb"Node with rank (\d+) exited with code (-?\d+)")
_FAMILIES = {kind.family: kind for kind in (ConfigError, DataError, ModelError, MemoryShortage, Diverged, StorageError)}


def run(path: Path, config: TrainConfig, session: Session) -> dict[str, Any]:
    """Train with several ranks, as the configuration at ``path`` says, and return rank 0's result.

    Raises what a rank raised, StopAsked after a checkpoint, RankDied when one died without a reason.
    """
    with tempfile.TemporaryDirectory(prefix="mlxp-ranks-") as folder:
        captain = Captain(session, config.ranks)
        try:
            captain.start(Path(folder), path, config)
            captain.follow()
        finally:
            captain.end()
    return captain.verdict()


class Captain:
    """Starts, hears and ends the ranks."""

    def __init__(self, session: Session, ranks: int) -> None:
        self._session, self._size = session, ranks
        self._launch: subprocess.Popen[bytes] | None = None
        self._ranks: list[psutil.Process] = []
        self._folder = Path()
        self._events = self._output = -1
        self._rest = {"events": b"", "output": b""}
        self._has_met = False
        self._limit = time.monotonic() + MEETING_S
        self._called_at = 0.0
        self._word: tuple[str, dict[str, Any]] | None = None
        self._failures: list[dict[str, Any]] = []
        self._deaths: list[tuple[int, int]] = []
        self._last_line = ""

    # Start -----------------------------------------------------------------------------------

    def start(self, folder: Path, path: Path, config: TrainConfig) -> None:
        """Start mlx.launch and with it the ranks. ``folder`` is for the pipe and the hostfile."""
        self._folder, pipe, hosts = folder, folder / "events", folder / "hosts.json"
        hosts.write_text(json.dumps(hostfile.load().deal(config.hosts, config.ranks)))
        os.mkfifo(pipe, 0o600)
        # For writing too, or the pipe would end before rank 0 has opened it.
        self._events = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        here = config.ranks // (1 + len(config.hosts))
        port = free_ports(config.ranks + 1)
        options = ["--hostfile", str(hosts), "--repeat-hosts", str(here)]
        options += ["--starting-port", str(port), "--nccl-port", str(port + config.ranks)]
        options += [] if config.backend == "auto" else ["--backend", config.backend]
        # Not --run-dir: by that word and the folder the platform knows the engine's own process.
        rank = ["rank", "--config", str(path.resolve()), "--folder", str(self._session.run_dir.root)]
        rank += ["--attempt", str(self._session.attempt.n), "--events", str(pipe)]
        rank += ["--captain", f"{socket.gethostname()}:{os.getpid()}"]
        rank += ["--devices", os.environ.get("CUDA_VISIBLE_DEVICES", "")]
        python = [sys.executable, "-m"]
        where = f"this machine and {', '.join(config.hosts)}" if config.hosts else "this machine"
        self._session.phase("launch", detail=f"{config.ranks} ranks")
        self._session.log(f"{config.ranks} ranks on {where} share each micro-batch (link: {config.backend}).")
        self._launch = subprocess.Popen(
            [*python, "training.engine.machine.launch", *options, "--", *python, "training.engine", *rank],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(here),
        )
        assert self._launch.stdout is not None
        self._output = self._launch.stdout.fileno()
        os.set_blocking(self._output, False)

    # Hear ------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Until mlx.launch has ended, or the time in which it should have."""
        assert self._launch is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._events, selectors.EVENT_READ, self._hear_events)
            selector.register(self._output, selectors.EVENT_READ, self._hear_output)
            while self._launch.poll() is None and time.monotonic() < self._limit and not self._is_done():
                for key, _ in selector.select(0.05):
                    if not key.data():
                        selector.unregister(key.fd)
                self._pass_on_a_stop()
                if not self._has_met:
                    self._poke()
        while self._hear_events() or self._hear_output():
            pass

    def _hear_events(self) -> bool:
        for line in self._lines("events", self._events):
            told = json.loads(line)
            event, fields = told["event"], told["fields"]
            if event == "started":
                self._meet()
            elif event in LAST_WORDS:
                self._word = (event, fields)
                self._part()
            else:
                self._session.journal.write(event, **fields)
        return self._was_data

    def _hear_output(self) -> bool:
        for line in self._lines("output", self._output):
            report = line.partition(FAILED.encode())[2]
            death = _DEATH.search(line)
            if report:
                with contextlib.suppress(ValueError):  # torn by another rank's output: the exit code is left
                    self._failures.append(json.loads(report))
            elif death:
                rank, code = int(death[1]), int(death[2])
                if code != Exit.STOPPED:
                    self._deaths.append((rank, code))
                    self._part()
            elif text := line.decode("utf-8", "replace").strip():
                self._last_line = text
                with contextlib.suppress(OSError):  # nobody reads, or the log's disk is full
                    os.write(sys.stdout.fileno(), line + b"\n")
        return self._was_data

    _was_data = False

    def _lines(self, name: str, fd: int) -> list[bytes]:
        """The complete lines that lie ready; ``_was_data`` tells the end of the stream from a line's pause."""
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            self._was_data = False
            return []
        self._was_data = bool(data)
        *lines, self._rest[name] = (self._rest[name] + data).split(b"\n")
        return lines

    def _meet(self) -> None:
        """All ranks are connected."""
        assert self._launch is not None
        self._has_met, self._limit = True, float("inf")
        shutil.rmtree(self._folder)  # all who need it have opened it, and a killed captain leaves nothing behind
        self._ranks = self._children()
        self._poke()

    def _poke(self) -> None:
        """Let mlx.launch write to the ranks, which have closed their inputs.

        Until a write has failed it asks in a busy loop whether there is room for one, and keeps a core busy.
        """
        assert self._launch is not None
        assert self._launch.stdin is not None
        with contextlib.suppress(OSError):
            self._launch.stdin.write(b"\n")
            self._launch.stdin.flush()

    def _is_done(self) -> bool:
        """Whether the last word is all there is to know and all ranks have ended; mlx.launch takes a second to see it.

        A stop that nobody here asked for has a reason, which another rank prints.
        """
        word = self._word[0] if self._word else ""
        enough = word == "finished" or (word == "stopped" and self._session.stopping is not None)
        return enough and not any(_lives(rank) for rank in self._ranks)

    def _part(self) -> None:
        """One rank has ended; the others have a moment to do so."""
        self._limit = min(self._limit, time.monotonic() + PARTING_S)

    def _pass_on_a_stop(self) -> None:
        assert self._launch is not None
        if self._session.stopping is None or time.monotonic() - self._called_at < REPEAT_S:
            return
        self._called_at = time.monotonic()
        ranks = self._ranks or self._children()
        for rank in ranks:
            with contextlib.suppress(psutil.Error):
                rank.send_signal(STOP)

    def _children(self) -> list[psutil.Process]:
        """What mlx.launch has started and still runs, on this machine: ranks, or the ssh to them."""
        assert self._launch is not None
        try:
            return psutil.Process(self._launch.pid).children(recursive=True)
        except psutil.Error:
            return []

    # End -------------------------------------------------------------------------------------

    def end(self) -> None:
        """Leave no process behind."""
        if self._launch is not None:
            left = [*self._ranks, *self._children()]
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self._launch.kill()
            self._launch.wait()
            until = time.monotonic() + PARTING_S
            while any(map(_lives, left)) and time.monotonic() < until:
                time.sleep(0.01)
            for stream in (self._launch.stdin, self._launch.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]  # both are pipes
        if self._events >= 0:
            os.close(self._events)

    def verdict(self) -> dict[str, Any]:
        """Rank 0's result, or the reason why there is none."""
        name, fields = self._word or ("", {})
        if name == "finished":
            result: dict[str, Any] = fields["result"]
            return result
        if self._session.stopping is not None and (name == "stopped" or not self._has_met):
            raise self._session.stopping
        failures = [*([fields | {"rank": 0}] if name == "failed" else []), *self._failures]
        for failure in failures:
            if failure["code"] != PEER_LOST:
                raise _error(failure, self._size)
        if name == "stopped":
            raise StopAsked(str(fields["why"]), Exit(fields["exit_code"]))
        if not self._has_met and all(code > 0 for _, code in self._deaths):
            raise ConfigError(
                "distributed.no_group",
                f"The {self._size} ranks did not meet: {self._last_line or 'nothing was said'}",
                "See the full log. Check the hostfile, ssh to every host, and that there is a device for each rank.",
            )
        if self._deaths or failures:
            # A signal is a cause; an exit code may be the answer to another rank's death.
            rank, code = min(self._deaths or [(0, int(Exit.BUG))], key=lambda death: death[1] >= 0)
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._session.log(f"Rank {rank} of {self._size} died ({how}); the others were ended.", "warning")
            raise RankDied(rank, code)
        assert self._launch is not None
        self._session.log("mlx.launch, which holds the ranks, ended before them.", "warning")
        raise RankDied(0, self._launch.returncode)


def environment(ranks: int) -> dict[str, str]:
    """Of ``ranks`` ranks on one machine, which share its cores.

    Two BLAS with as many threads as cores each wait for each other in busy loops: five times slower.
    """
    name = "OPENBLAS_NUM_THREADS"
    cores = int(os.environ.get(name) or blas.cores())
    return {**os.environ, name: str(max(1, cores // ranks))}


def free_ports(count: int) -> int:
    """The first of ``count`` neighbouring TCP ports that nobody listens on now. Raises ConfigError."""
    for _ in range(200):
        first = random.randrange(PORTS.start, PORTS.stop - count)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("", port))
            except OSError:
                continue
            return first
    raise ConfigError("distributed.ports", f"No {count} free ports in a row were found.", "Close some programs.")


def die_like(death: RankDied) -> int:
    """End this process as the rank ended, so that whoever started it draws the same conclusions."""
    if death.code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the rank's core is the interesting one
        with contextlib.suppress(OSError, ValueError):  # SIGKILL takes no handler
            signal.signal(-death.code, signal.SIG_DFL)
        os.kill(os.getpid(), -death.code)
    return death.code or int(Exit.BUG)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _error(failure: dict[str, Any], size: int) -> EngineError:
    """A rank's failure, raised once more in the captain."""
    kind = _FAMILIES.get(str(failure["family"]), EngineError)
    rank = f"Rank {failure['rank']} of {size}: " if failure["rank"] else ""
    error = kind(str(failure["code"]), f"{rank}{failure['message']}", str(failure["hint"]))
    error.problems = [Problem(**{**row, "loc": tuple(row["loc"])}) for row in failure.get("problems", [])]
    error.trace = str(failure.get("trace", ""))
    return error
