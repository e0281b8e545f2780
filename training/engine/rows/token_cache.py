"""Rows as tokens, kept from training to training.

Rendering templates and tokenising a large data set takes minutes, and most trainings of it differ in
other things. A file's name is the digest of all that decides its content: the data file, the
tokenizer's files, the method's settings, the length, this engine. What does not fit any more is simply
never asked for again; the oldest go when the folder grows too large.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from training.engine import ENGINE_VERSION
from training.engine.config.training import TrainConfig
from training.engine.rows import packing
from training.engine.rows.batches import Rows

LIMIT = 2 << 30  # bytes of all files together
_WORDS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "config.json")


def through(folder: Path | None, key: str, make: Callable[[], Rows]) -> Rows:
    """The rows of ``key`` out of ``folder``, or made and put there; None: always made.

    A cache is no reason to fail: a broken file is made anew, and a full disk leaves it out.
    """
    if folder is None:
        return make()
    path = folder / f"{key}.npz"
    found = _read(path)
    if found is not None:
        return found
    rows = make()
    with contextlib.suppress(OSError):
        _write(path, rows)
        _tidy(folder, path)
    return rows


def key(config: TrainConfig, data: Path) -> str:
    """Digest of all that decides how the rows of ``data`` become tokens."""
    digest = hashlib.sha256()
    asked = {"method": config.method.model_dump(), "length": config.max_seq_length, "engine": ENGINE_VERSION}
    digest.update(json.dumps(asked, sort_keys=True).encode())
    for path in [*(config.model / name for name in _WORDS), data]:
        digest.update(path.name.encode() + b"\0")
        if path.exists():
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:40]


def _read(path: Path) -> Rows | None:
    try:
        with np.load(path, allow_pickle=False) as found:
            left_out, cut = found["counts"].tolist()
            examples = packing.unpack({name: found[name] for name in found})
        os.utime(path)  # it was of use: the oldest go first
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Rows(examples, left_out, cut)


def _write(path: Path, rows: Rows) -> None:
    """Complete or absent, also when two trainings make it at once."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    arrays = {**packing.pack(rows.rows), "counts": np.array([rows.left_out, rows.cut])}
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as file:
        try:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _tidy(folder: Path, newest: Path) -> None:
    files = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > LIMIT and path != newest:
            path.unlink(missing_ok=True)
