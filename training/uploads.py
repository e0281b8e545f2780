"""Files that people bring: uploads, and server folders they may import from.

An upload is one file in ``uploads/<uuid>/``; it is known by that uuid, never by a path. A server path
is taken only below one of the folders of ``MLXP_IMPORT_ROOTS``, after every link was followed.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings

from mlxplatform.core.env import env
from mlxplatform.core.errors import Invalid, NotFound, TooMuch
from training.engine.errors import Problem

#: What may be uploaded: data files, and GGUF models. Nothing that is code or a pickle.
EXTENSIONS = (".jsonl", ".json", ".csv", ".parquet", ".arrow", ".txt", ".gguf")
MAX_ENTRIES = 10_000  # files in a server folder that is imported


class Uploaded(Protocol):
    """What is needed of Django's UploadedFile."""

    @property
    def name(self) -> str | None:
        """What the browser called it."""

    @property
    def size(self) -> int | None:
        """Bytes."""

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """The content in pieces."""


def free_bytes() -> int:
    """Bytes of the data folder's disk that may still be used: what is free beyond the reserve."""
    return int(shutil.disk_usage(settings.HOME).free - env().reserve_gb * 1e9)


def need_disk(wanted: int = 0) -> None:
    """Raise TooMuch unless ``wanted`` bytes fit without touching the disk's reserve."""
    left = free_bytes()
    if left <= wanted:
        raise TooMuch(
            "disk.reserve",
            f"The disk has {max(left, 0) / 1e9:.1f} GB left beyond the reserve of {env().reserve_gb:g} GB; "
            f"{wanted / 1e9:.1f} GB are needed.",
            "Delete old jobs or data sets, or lower MLXP_RESERVE_GB.",
        )


def save(file: Uploaded) -> Path:
    """Write an upload to ``uploads/<uuid>/<name>`` and return its path. Raises Invalid or TooMuch."""
    name = _clean_name(file.name or "")
    cap = env().max_upload_mb << 20
    if (file.size or 0) > cap:
        raise _too_large(cap)
    need_disk(file.size or 0)
    folder = env().folder("uploads") / str(uuid.uuid4())
    folder.mkdir(mode=0o700)
    written = 0
    try:
        with open(folder / name, "xb") as out:
            for chunk in file.chunks():
                written += len(chunk)
                if written > cap:
                    raise _too_large(cap)
                out.write(chunk)
        if not written:
            raise Invalid("upload.empty", f"'{name}' is empty.", "Choose a file with content.")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder / name


def find(upload_id: Any) -> Path:
    """The file of an upload. Raises NotFound."""
    try:
        folder = env().folder("uploads") / str(uuid.UUID(str(upload_id)))
        files = [p for p in folder.iterdir() if p.is_file() and not p.is_symlink()]
    except (ValueError, OSError):
        files = []
    if len(files) != 1:
        raise NotFound("upload.unknown", "There is no such upload.", "Upload the file again.")
    return files[0]


def server_path(raw: Any) -> Path | Problem:
    """``raw`` with all links followed, if it may be imported from; otherwise what is wrong with it."""
    roots = [*env().roots, env().folder("uploads").resolve()]
    text = str(raw or "")
    if not text or "\x00" in text or not Path(text).is_absolute():
        return _refused(text, "Give an absolute path.")
    try:
        path = Path(text).resolve()
        inside = any(path.is_relative_to(root) for root in roots)
        if not inside:
            return _refused(text, "Ask an admin to add its folder to MLXP_IMPORT_ROOTS, or upload the file.")
        if not path.exists():
            return Problem(("source", "path"), "path.missing", f"There is no '{text}'.", "Check the path.")
        stray = _link_out(path, roots) if path.is_dir() else None
    except OSError as error:
        return _refused(text, f"It cannot be read: {error.strerror}.")
    if stray is not None:
        return _refused(text, f"'{stray}' in it leads elsewhere; put a copy in its place.")
    return path


def _link_out(folder: Path, roots: list[Path]) -> str | None:
    """The first entry that leads out of the allowed folders, or 'too many' when it cannot be checked."""
    for seen, entry in enumerate(_entries(folder)):
        if seen >= MAX_ENTRIES:
            return f"more than {MAX_ENTRIES} files"
        if entry.is_symlink() and not any(entry.resolve().is_relative_to(root) for root in roots):
            return str(entry.relative_to(folder))
    return None


def _entries(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(parent) / name


def _refused(text: str, hint: str) -> Problem:
    return Problem(("source", "path"), "path.not_allowed", f"'{text[:200]}' may not be imported from.", hint)


def _too_large(cap: int) -> TooMuch:
    return TooMuch(
        "upload.too_large",
        f"The file is larger than {cap >> 20} MiB.",
        "Put it into one of the MLXP_IMPORT_ROOTS and import it by path, or raise MLXP_MAX_UPLOAD_MB.",
    )


def _clean_name(name: str) -> str:
    """A file name that is only a name; its extension decides who reads it."""
    base = re.split(r"[/\\]", name)[-1]
    clean = re.sub(r"[^\w.\-]+", "_", base).lstrip(".")[-100:]
    if not clean.lower().endswith(EXTENSIONS):
        raise Invalid(
            "upload.extension",
            f"'{base[:80]}' is of a kind that cannot be imported.",
            f"Upload one of {', '.join(EXTENSIONS)}.",
        )
    return clean
