"""What may be wrong with an installation, and how to mend it: one function for each question.

Nothing is changed by looking. A check that needs MLX asks in a process of its own, because this one must not load it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from mlxplatform import assets, ports
from mlxplatform.core.env import ROOT, env
from training.alive import worker_is_alive

Level = Literal["ok", "note", "broken"]
OLDEST = (3, 11)
PIN = re.compile(r"^([\w.\-]+)(?:\[[\w,\-]+\])?==([^\s;]+)\s*(?:;\s*sys_platform\s*==\s*['\"](\w+)['\"])?")
ASK_MLX = """
import json, os, sys
from pathlib import Path
from training.engine.machine import blas
wanted = blas.environment(Path(sys.argv[1]))
if wanted and "AGAIN" not in os.environ:
    environment = {**os.environ, **wanted, "AGAIN": "1"}
    os.execve(sys.executable, [sys.executable, "-c", sys.argv[2], *sys.argv[1:]], environment)
import mlx.core as mx
mx.eval(mx.ones((64, 64)) @ mx.ones((64, 64)))
about = {"version": mx.__version__, "device": str(mx.default_device())}
print(json.dumps(about | {"blas": blas.running(), "note": blas.note()}))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question. ``hint`` says what to do, and is empty when all is well."""

    check: str
    level: Level
    message: str
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)


def examine(port: int | None = None) -> list[Finding]:
    """Ask every question. A check that fails itself is a finding too."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check() if check is not _port else _port(port)
        except Exception as error:  # the doctor must not be ill
            name = check.__name__.strip("_")
            findings.append(Finding(name, "broken", f"This could not be checked: {error!r}.", "Please report this."))
    return findings


def _python() -> list[Finding]:
    version = platform.python_version()
    if sys.version_info < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return [Finding("python", "broken", f"Python {version} is too old.", f"Install Python {wanted} or newer.")]
    return [Finding("python", "ok", f"Python {version}")]


def _packages() -> list[Finding]:
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wrong = []
    for pin in pins:
        match = PIN.match(pin)
        if match is None or (match.group(3) and match.group(3) != sys.platform):
            continue
        name, wanted = match.group(1), match.group(2)
        try:
            have = metadata.version(name)
        except metadata.PackageNotFoundError:
            have = "missing"
        if have != wanted:
            wrong.append(f"{name} is {have}, wanted is {wanted}")
    if wrong:
        hint = "Install what is pinned: make install"
        return [Finding("packages", "broken", f"{len(wrong)} packages differ: {'; '.join(wrong)}.", hint)]
    return [Finding("packages", "ok", f"{len(pins)} packages as pinned")]


def _mlx() -> list[Finding]:
    """MLX and its BLAS, in another process: on a machine without a device the import can end a process."""
    command = [sys.executable, "-c", ASK_MLX, str(env().folder("cache")), ASK_MLX]
    reinstall = "Install it anew: make install (on Linux with the extra cpu, cuda12 or cuda13)"
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
        about = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        lines = (
            done.stderr.strip().splitlines()
            if not isinstance(error, subprocess.TimeoutExpired)
            else ["no answer in 90 s"]
        )
        reason = lines[-1] if lines else f"exit status {done.returncode}"
        return [Finding("mlx", "broken", f"MLX cannot be used: {reason[:300]}.", reinstall)]
    findings = [Finding("mlx", "ok", f"MLX {about['version']} on {about['device']}")]
    if about["note"]:
        hint = "Trainings run, but many times slower. Install the packages as pinned: make install"
        findings.append(Finding("blas", "note", about["note"], hint))
    else:
        findings.append(Finding("blas", "ok", about["blas"]))
    return findings


def _disk() -> list[Finding]:
    free, reserve = shutil.disk_usage(settings.HOME).free / 1e9, env().reserve_gb
    if free <= reserve:
        message = f"{free:.1f} GB are free, and {reserve:g} GB are kept in reserve."
        return [Finding("disk", "broken", message, "Delete old jobs and data sets, or lower MLXP_RESERVE_GB.")]
    if free - reserve < 5:
        return [Finding("disk", "note", f"Only {free - reserve:.1f} GB are left.", "Delete old jobs soon.")]
    return [Finding("disk", "ok", f"{free - reserve:.0f} GB free")]


def _folder() -> list[Finding]:
    home = Path(settings.HOME)
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        return [Finding("folder", "broken", f"{home} cannot be written.", f"chown -R $USER '{home}'")]
    findings = []
    for path in (home / "secret", home / "huey.sqlite3"):
        if path.exists() and path.stat().st_mode & 0o077:
            message = f"{path.name} can be read by others."
            findings.append(Finding("folder", "broken", message, f"chmod 600 '{path}'"))
    return findings or [Finding("folder", "ok", str(home))]


def _database() -> list[Finding]:
    path = Path(str(settings.DATABASES["default"]["NAME"]))
    if not path.exists():
        return [Finding("database", "note", "There is no database yet.", "The first 'manage.py serve' makes it.")]
    try:
        with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as own:
            verdict = own.execute("PRAGMA quick_check(1)").fetchone()[0]
            own.execute("BEGIN IMMEDIATE")
            own.execute("ROLLBACK")
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (sqlite3.Error, DatabaseError) as error:
        hint = "See that the disk is not full and the file belongs to you; else restore it from a backup."
        return [Finding("database", "broken", f"The database cannot be used: {error}.", hint)]
    finally:
        connection.close()
    if verdict != "ok":
        return [Finding("database", "broken", f"The database is damaged: {verdict}.", "Restore it from a backup.")]
    if missing:
        hint = "python manage.py migrate (serve does it by itself)"
        return [Finding("database", "note", f"{len(missing)} migrations are due.", hint)]
    return [Finding("database", "ok", f"{path.stat().st_size / 1e6:.1f} MB, sound and up to date")]


def _port(port: int | None = None) -> list[Finding]:
    number = port or env().port
    holder = ports.who(number)
    if not holder:
        return [Finding("port", "ok", f"Port {number} is free")]
    if holder.startswith("another dashboard"):
        return [Finding("port", "ok", f"Port {number} is served by a dashboard ({holder.split('(')[1]}")]
    hint = f"End that process, or use another port: python manage.py serve --port {number + 1}"
    return [Finding("port", "broken", f"Port {number} is in use by {holder}.", hint)]


def _assets() -> list[Finding]:
    try:
        fresh = assets.up_to_date(assets.VENDOR, assets.fingerprint(assets.ROOT))
    except assets.AssetsError as error:
        return [Finding("assets", "broken", str(error), "Restore the repository's files.")]
    if not fresh:
        return [Finding("assets", "broken", "The web assets are missing or old.", "python -m mlxplatform.assets")]
    return [Finding("assets", "ok", "Web assets as locked")]


def _worker() -> list[Finding]:
    if worker_is_alive():
        return [Finding("worker", "ok", "A worker runs")]
    return [Finding("worker", "note", "No worker runs, so queued jobs wait.", "Start one: python manage.py serve")]


def _hub() -> list[Finding]:
    if env().offline:
        return [Finding("hub", "ok", "Offline: the Hugging Face Hub is never asked")]
    folder = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    if os.environ.get("HF_TOKEN") or (folder / "token").is_file():
        return [Finding("hub", "ok", "A Hugging Face token is there")]
    hint = "Only gated and private models need one: set HF_TOKEN."
    return [Finding("hub", "note", "There is no Hugging Face token.", hint)]


CHECKS: tuple[Callable[..., Any], ...] = (
    _python, _packages, _mlx, _disk, _folder, _database, _port, _assets, _worker, _hub,
)  # fmt: skip
