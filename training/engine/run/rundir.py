"""The run folder: where everything of one job lies, and who may write into it.

::

    runs/<job uuid>/config.json              the whole request, written once by the platform
                    checkpoints/0000200/     one folder per checkpoint, complete or absent
                    run.lock                 held exclusively by the engine while it lives
                    attempts/<n>/attempt.json   {schema, attempt, fence}, written by the platform
                                /events.jsonl   the journal, written by the engine only
                                /stdout.log     raw output
                                /watch.lock     held by the worker that watches
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.engine import SCHEMA
from training.engine.errors import StorageError


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths of one job's folder."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def lock(self) -> Path:
        return self.root / "run.lock"

    def attempt(self, n: int) -> AttemptDir:
        """The folder of attempt ``n`` (1-based)."""
        return AttemptDir(self.root / "attempts" / str(n), n)

    def newest_attempt(self) -> int:
        """The highest attempt number there is, 0 when there is none."""
        folder = self.root / "attempts"
        numbers = [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
        return max(numbers, default=0)


@dataclass(frozen=True, slots=True)
class AttemptDir:
    """Paths of one attempt's folder."""

    root: Path
    n: int

    @property
    def about(self) -> Path:
        return self.root / "attempt.json"

    @property
    def journal(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def stdout(self) -> Path:
        return self.root / "stdout.log"

    @property
    def watch_lock(self) -> Path:
        return self.root / "watch.lock"

    def prepare(self, fence: int) -> None:
        """Make the folder and its ``attempt.json``; harmless when done twice."""
        make(self.root)
        write_json(self.about, {"schema": SCHEMA, "attempt": self.n, "fence": fence})

    def fence(self) -> int:
        """The fence this attempt was started under; 0 when run by hand."""
        try:
            return int(json.loads(self.about.read_text())["fence"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0


def make(folder: Path) -> None:
    """Make ``folder`` and its parents, for nobody else to read. Raises StorageError when that is refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(
            "storage.folder",
            f"The folder {folder} cannot be made: {error.strerror}.",
            "Give another folder, or make this one writable.",
        ) from error


def hold(path: Path) -> int | None:
    """Take an exclusive lock on ``path`` and return its descriptor, or None when another holds it.

    Raises StorageError when the file cannot be made or opened.
    The lock belongs to the open file: it ends with the process, however that ends.
    """
    make(path.parent)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            "storage.lock",
            f"The file {path} cannot be opened: {error.strerror}.",
            "Free some disk space or give the folder write permission, then try again.",
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def is_held(path: Path) -> bool:
    """Whether some process holds the lock at ``path``. Takes it for an instant to find out."""
    if not path.exists():
        return False
    fd = hold(path)
    if fd is None:
        return True
    os.close(fd)
    return False


def write_json(path: Path, value: Any) -> None:
    """Publish ``value`` as JSON at ``path``: written beside, flushed to the disk, then renamed."""
    beside = path.with_name(path.name + ".part")
    try:
        with open(beside, "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise StorageError(
            "storage.write",
            f"{path.name} could not be written: {error.strerror}.",
            "Free some disk space or give the data folder write permission, then try again.",
        ) from error
