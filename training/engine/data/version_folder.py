"""A data set version on the disk: immutable, complete or absent, named by what is in it.

::

    <target>/<sha256>/train.jsonl  valid.jsonl  test.jsonl   rows in the normal form, one per line
                      about.json                             schema 1: format, rows, source, report

The name is the sha256 of the text ``mlxp-dataset 1\\n<format>\\n`` and, for each split in the order
train, valid, test, ``<split> <sha256 of its file>\\n``: it covers rows, format and split, and
``sha256sum`` can check it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from training.engine import SCHEMA
from training.engine.data.sources import SPLITS
from training.engine.errors import DataError, StorageError
from training.engine.run.rundir import hold, is_held, write_json

_PREFIX = ".importing-"
_GRACE = 60  # seconds in which a fresh folder may still be without its lock


class Draft:
    """A version being written, in a hidden folder beside its future place."""

    def __init__(self, target: Path) -> None:
        """Raises StorageError when ``target`` cannot be written."""
        self.target = target
        with _disk():
            target.mkdir(parents=True, exist_ok=True, mode=0o700)
            _sweep(target)
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=target))
            self._lock = hold(self.folder / "lock")

    def drop(self) -> None:
        """Remove what is left of the draft; harmless when it was published."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def publish(self, data_format: str, about: dict[str, Any]) -> tuple[Path, str, bool]:
        """Name the draft by its content and put it in its place: (folder, sha256, was it there already).

        Takes over the split files in the draft's folder. Raises DataError data.version_damaged when
        the same version is there but no longer what its name says.
        """
        with _disk():
            files = {split: describe(self.folder / f"{split}.jsonl") for split in SPLITS}
            files = {split: found for split, found in files.items() if found["rows"]}
            name = version_hash(data_format, files)
            final = self.target / name
            if final.exists():
                check(final)
                return final, name, True
            for split in SPLITS:
                path = self.folder / f"{split}.jsonl"
                if split not in files:
                    path.unlink(missing_ok=True)
                    continue
                _settle(path)
            write_json(self.folder / "about.json", {
                "schema": SCHEMA, "sha256": name, "data_format": data_format, "files": files,
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **about,
            })  # fmt: skip
            _settle(self.folder / "about.json")
            (self.folder / "lock").unlink()
            _sync_folder(self.folder)
            try:
                self.folder.rename(final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                check(final)  # another import of the same rows was faster
                return final, name, True
            _sync_folder(self.target)
            return final, name, False


def describe(path: Path) -> dict[str, Any]:
    """``{"rows", "bytes", "sha256"}`` of one split's file; a missing one has no rows."""
    digest, rows, size = hashlib.sha256(), 0, 0
    if path.exists():
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                rows += block.count(b"\n")
                size += len(block)
    return {"rows": rows, "bytes": size, "sha256": digest.hexdigest()}


def version_hash(data_format: str, files: dict[str, dict[str, Any]]) -> str:
    """The name of a version, from its format and the description of its splits."""
    text = f"mlxp-dataset 1\n{data_format}\n"
    text += "".join(f"{split} {files[split]['sha256']}\n" for split in SPLITS if split in files)
    return hashlib.sha256(text.encode()).hexdigest()


def check(folder: Path) -> dict[str, Any]:
    """The ``about.json`` of a version whose every byte was compared with its name.

    Raises DataError data.version_damaged.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        files = {split: describe(folder / f"{split}.jsonl") for split in SPLITS}
        files = {split: found for split, found in files.items() if found["rows"]}
        if version_hash(about["data_format"], files) == folder.name:
            return about
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise DataError(
        "data.version_damaged",
        f"The data set version {folder.name[:12]} was changed or is incomplete.",
        "Remove its folder and import the data again.",
    )


@contextmanager
def _disk() -> Iterator[None]:
    """Say in our words what the disk refuses."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(error) from error


def storage_error(error: OSError) -> StorageError:
    """A refusal of the disk as the error that the command ends with."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(
            "storage.full", "There is no room left for the data set.", "Free some disk space and import again."
        )
    return StorageError(
        "storage.write",
        f"The data set could not be written: {error.strerror}.",
        "Give the data folder write permission, then import again.",
    )


def _settle(path: Path) -> None:
    """Flush a finished file to the disk and forbid further writing."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    path.chmod(0o444)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sweep(target: Path) -> None:
    """Remove drafts whose import died: nobody holds their lock any more."""
    for folder in target.glob(f"{_PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime > _GRACE and not is_held(folder / "lock"):
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            continue  # another import swept it


def write_line(file: BinaryIO, line: bytes) -> None:
    """Append one row."""
    file.write(line)
    file.write(b"\n")
