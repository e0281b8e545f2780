"""The engine as an operating system process: start it, recognise it again, signal it, see that it is gone.

Nothing here knows the database. A process is recognised by its number *and* by its start time or its
command line, because numbers are used again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlxplatform.core.env import ROOT
from training.engine.run.rundir import RunDir, is_held

#: The engine's program; arguments follow. Tests of misbehaviour put another program here.
ENGINE: list[str] = [sys.executable, "-m", "training.engine"]

#: Variables the engine gets. No LD_* and DYLD_*: they would let a job load code of its own choosing.
ENV_NAMES = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "VIRTUAL_ENV",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "CUDA_VISIBLE_DEVICES",
    }
)
ENV_PREFIXES = ("MLXP_", "HF_", "LC_", "MLX_", "OMP_", "OPENBLAS_", "MKL_", "VECLIB_", "NCCL_")

START_TOLERANCE = 2.0  # seconds; the kernel's start time as two readers compute it


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a process from every other one of the same host and boot."""

    pid: int
    start: float | None  # UTC seconds since the epoch


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; both are None when it was not our child."""

    code: int | None = None
    signal: int | None = None


class Engine:
    """A running engine: a child of this process, or one that an earlier worker started."""

    def __init__(self, identity: Identity, run_dir: RunDir, child: subprocess.Popen[bytes] | None = None) -> None:
        self.identity = identity
        self._run_dir = run_dir
        self._child = child

    @property
    def pid(self) -> int:
        return self.identity.pid

    def exit(self) -> Exit | None:
        """None while it lives."""
        if self._child is None:
            return None if is_alive(self.identity, self._run_dir) else Exit()
        code = self._child.poll()
        if code is None:
            return None
        return Exit(code=code) if code >= 0 else Exit(signal=-code)

    def signal(self, number: int) -> None:
        """Send a signal to the engine's whole process group; harmless when it is gone."""
        if self.exit() is None:
            _signal_group(self.pid, number)

    def sweep(self) -> None:
        """After its end: kill what it left behind in its group."""
        kill_group(self.pid)


def environment() -> dict[str, str]:
    """The engine's environment: the allowed part of ours."""
    return {k: v for k, v in os.environ.items() if k in ENV_NAMES or k.startswith(ENV_PREFIXES)}


def spawn(command: str, run_dir: RunDir, n: int) -> Engine:
    """Start the engine on attempt ``n`` of ``run_dir`` in a session of its own. Raises OSError.

    Its output goes to a file: a pipe that nobody drains would freeze the training.
    """
    attempt = run_dir.attempt(n)
    args = [*ENGINE, command, "--config", str(run_dir.config), "--run-dir", str(run_dir.root), "--attempt", str(n)]
    with open(attempt.stdout, "ab", opener=_private) as out:
        child = subprocess.Popen(
            args,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
        )
    return Engine(Identity(child.pid, start_time(child.pid)), run_dir, child)


def start_time(pid: int) -> float | None:
    """When the process began, UTC seconds since the epoch; None when there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def is_alive(identity: Identity, run_dir: RunDir) -> bool:
    """Whether this very process lives.

    After the machine's clock was set, start times of the same process differ; the command line, which
    names the run folder, then still tells it from a stranger with the same number.
    """
    try:
        process = psutil.Process(identity.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if identity.start is not None and abs(process.create_time() - identity.start) < START_TOLERANCE:
            return True
        return str(run_dir.root) in process.cmdline()
    except psutil.AccessDenied:
        return is_held(run_dir.lock)
    except psutil.Error:
        return False


def find(run_dir: RunDir) -> Identity | None:
    """The engine that works on ``run_dir``, looked for by its command line.

    For the moment between a spawn and the storing of its number.
    """
    root = str(run_dir.root)
    for process in psutil.process_iter(["pid", "cmdline", "status", "create_time"]):
        info = process.info
        words = info["cmdline"] or []
        if root in words and "--run-dir" in words and info["status"] != psutil.STATUS_ZOMBIE:
            return Identity(info["pid"], info["create_time"])
    return None


def kill_group(pgid: int) -> None:
    """Kill what is left of the session that engine ``pgid`` led, once the engine itself is gone.

    A living process with the number of the dead leader is a stranger: a group's number is not given
    out again while the group has members.
    """
    if not psutil.pid_exists(pgid) or _is_zombie(pgid):
        _signal_group(pgid, signal.SIGKILL)


def boot_id() -> str:
    """A word that changes at each start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(round(psutil.boot_time()))


def host() -> str:
    """This machine's name."""
    return socket.gethostname()[:120]


def _signal_group(pgid: int, number: int) -> None:
    if pgid <= 1 or pgid == os.getpgrp():
        return
    # Gone, or only zombies are left (macOS then answers with EPERM).
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
