"""Questions that the engine answers at once: what is wrong with a file, how rows look token by token.

Foreign bytes are only ever parsed in a throw-away process with bounds on time, memory and output.
Answers are kept in ``cache/asks/`` under a hash of the question. A version's folder is named by its
content and never changes; a file of the server may be edited, so its size and age belong to the hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from mlxplatform.core.env import ROOT, env
from mlxplatform.core.errors import DomainError, Invalid, TooMuch
from registry.models import ModelVersion
from training import process
from training.engine import SCHEMA
from training.engine.errors import Problem
from training.engine.run.rundir import write_json
from training.models import DatasetVersion

AT_ONCE, PATIENCE = 2, 20.0  # processes; seconds that a further question waits for one to end
TIMEOUT = 120.0  # seconds of an answer
MEMORY, OUTPUT = 8 << 30, 64 << 20  # bytes: address space, answer
KEEP = 500  # answers

_places = threading.BoundedSemaphore(AT_ONCE)


class AskFailed(DomainError):  # noqa: N818 - named as its family in core.errors
    """The process ended without an answer."""

    status = 422


def validate(path: Path, *, data_format: str = "", max_problems: int = 20) -> dict[str, Any]:
    """The report on an uploaded file, as ``validate-data`` gives it. Raises Invalid, TooMuch."""
    question = {"path": str(path), "data_format": data_format, "max_problems": max_problems}
    return ask("validate-data", question, _stamp(path))


def tokens(data: DatasetVersion, model: ModelVersion, **options: Any) -> dict[str, Any]:
    """Rows of ``data`` token by token with the training's mask; ``options`` as in ``TokensConfig``."""
    return ask("tokens", {"model": str(model.whole.folder), "data": str(data.folder), **options})


def ask(
    command: str,
    question: dict[str, Any],
    stamp: str = "",
    *,
    fresh: float | None = None,
    memory: int | None = MEMORY,
) -> dict[str, Any]:
    """The engine's answer, from the cache if it was asked before about the same ``stamp``.

    ``fresh``: seconds for which an answer holds; None: for ever. ``memory``: bytes of address space, None: all.
    Raises Invalid, TooMuch, AskFailed.
    """
    answer = kept(command, question, stamp, fresh=fresh)
    if answer is not None:
        return answer
    if not _places.acquire(timeout=PATIENCE):
        raise TooMuch("asks.busy", f"{AT_ONCE} such questions are being answered.", "Try again in a moment.")
    try:
        answer = _run(command, {**question, "schema": SCHEMA}, memory)
    finally:
        _places.release()
    if "failed" in answer:
        raise _refusal(answer["failed"])
    path = _place(command, question, stamp)
    path.parent.mkdir(exist_ok=True, mode=0o700)
    write_json(path, answer)
    _prune(path.parent)
    return answer


def kept(
    command: str, question: dict[str, Any], stamp: str = "", *, fresh: float | None = None
) -> dict[str, Any] | None:
    """An answer of the cache that is at most ``fresh`` seconds old; None when there is none."""
    path = _place(command, question, stamp)
    try:
        if fresh is not None and time.time() - path.stat().st_mtime > fresh:
            return None
        answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return answer


def _place(command: str, question: dict[str, Any], stamp: str) -> Path:
    text = json.dumps([command, {**question, "schema": SCHEMA}, stamp], sort_keys=True)
    return env().folder("cache") / "asks" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def _stamp(path: Path) -> str:
    """Sizes and ages of a file or of the files of a folder; "" when it cannot be read."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return " ".join(f"{f.name}:{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in files[:1000])
    except OSError:
        return ""


def _run(command: str, config: dict[str, Any], memory: int | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ask-") as folder:
        path, out = Path(folder, "config.json"), Path(folder, "answer.json")
        path.write_text(json.dumps(config), encoding="utf-8")
        with open(out, "wb") as stdout:
            child = subprocess.Popen(
                [*process.ENGINE, command, "--config", str(path)],
                cwd=ROOT,
                env=process.environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        _bound(child.pid, memory)
        try:
            child.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise AskFailed(
                "ask.timeout",
                f"There was no answer within {TIMEOUT:.0f} seconds.",
                "Import it instead: imports may take as long as they need.",
            ) from None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        try:
            answer = json.loads(out.read_bytes())
        except (ValueError, RecursionError):
            answer = None
    if not isinstance(answer, dict):
        raise AskFailed(
            "ask.died",
            f"The engine ended with code {child.returncode} and no answer.",
            "The input may be too large or broken; import it to see more in the job's log.",
        )
    return answer


def _bound(pid: int, memory: int | None) -> None:
    """Limit a child that has only begun to load Python. Where a system cannot, the time-out remains."""
    prlimit = getattr(resource, "prlimit", None)
    if prlimit is None:
        return
    try:
        if memory is not None:
            prlimit(pid, resource.RLIMIT_AS, (memory, memory))
        prlimit(pid, resource.RLIMIT_CPU, (int(TIMEOUT), int(TIMEOUT)))
        prlimit(pid, resource.RLIMIT_FSIZE, (OUTPUT, OUTPUT))
    except ProcessLookupError:
        return  # it has ended already


def _refusal(failed: dict[str, Any]) -> Invalid:
    found = [
        Problem(tuple(p.get("loc", ())), str(p["code"]), str(p["message"]), str(p.get("hint", "")))
        for p in failed.get("problems") or [failed]
    ]
    return Invalid.of(found)


def _prune(folder: Path) -> None:
    """Keep the newest answers."""
    kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in kept[:-KEEP]:
        path.unlink(missing_ok=True)
