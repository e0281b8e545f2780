"""How a new model folder comes to be: beside its place, complete, or not at all.

The folder is built as ``<target>.part``, flushed to the disk and renamed at the very end. What made it stands in
its manifest, which is written last, so whoever finds it only reports what is already there.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.engine.errors import StorageError
from training.engine.foreign import model_folder
from training.engine.report import Reporter
from training.engine.run.rundir import write_json

MANIFEST = "import.json"
PART = ".part"


def make(target: Path, say: Reporter, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The folder ``target`` with what ``fill`` puts into it; returns what its manifest holds.

    ``fill`` gets an empty folder and returns the manifest, with the sha256 of every file under ``files``; their
    ``bytes`` are added. What a killed attempt left is begun anew. Raises StorageError, and what ``fill`` raises.
    """
    finished = _finished(target)
    if finished is not None:
        say.log(f"{target.name} was made before; nothing is left to do.")
        return finished
    part = target.with_name(target.name + PART)
    try:
        if part.exists():
            shutil.rmtree(part)
        part.mkdir(parents=True, mode=0o700)
        result = fill(part)
        result["bytes"] = sum((part / name).stat().st_size for name in result["files"])
        write_json(part / MANIFEST, result)
        model_folder.flush(part)
        part.rename(target)
        model_folder.flush_names(target.parent)
    except OSError as error:
        raise _storage(error, target) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return result


def _finished(target: Path) -> dict[str, Any] | None:
    """The manifest of a folder that was completed before; None when the place is free."""
    if not target.exists():
        return None
    try:
        result = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise StorageError(
            "storage.exists",
            f"There is already something at {target} that no import has made.",
            "Choose another target, or move it away.",
        ) from None
    return dict(result)


def _storage(error: OSError, target: Path) -> StorageError:
    if isinstance(error, StorageError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            "storage.full", f"The disk with {target.parent} is full.", "Free some space, then run the import again."
        )
    return StorageError(
        "storage.write",
        f"{error.filename or target} could not be written or read: {error.strerror or error}.",
        "Give the models folder write permission, then run the import again.",
    )
