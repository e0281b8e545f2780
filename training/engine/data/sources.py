"""Where the rows of a data set come from: a file, or a folder whose file names tell the splits."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.engine.data import containers
from training.engine.data.containers import Record
from training.engine.errors import DataError
from training.engine.report import Reporter

POOL = "pool"  # rows that nobody has put into a split yet
SPLITS = ("train", "valid", "test")
MAX_FILES = 10_000
_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "eval": "valid",
    "test": "test",
    "testing": "test",
}
# What exporters write beside the rows.
_NO_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "about.json"})


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a data set: its name for people, and the split its name tells (``pool`` if none)."""

    path: Path
    name: str
    split: str
    size: int


def split_of(name: str) -> str:
    """The split that a file or split name tells: ``train-00000-of-2.parquet``, ``data/validation.csv``."""
    for part in reversed(Path(name).parts):
        word = re.split(r"[-_.]", part.lower())[0]
        if word in _WORDS:
            return _WORDS[word]
    return POOL


def find(path: Path) -> list[Part]:
    """The files of the data set at ``path``, in a fixed order.

    Raises DataError: data.missing_file, data.link, data.no_files, data.too_many_files.
    """
    if not path.is_dir():
        size = path.stat().st_size if path.is_file() else 0
        return [Part(path, path.name, POOL, size)]
    parts = []
    for file in sorted(path.rglob("*")):
        if file.name.startswith(".") or file.suffix.lower() not in containers.SUFFIXES or file.name in _NO_DATA:
            continue
        name = str(file.relative_to(path))
        if file.is_symlink():
            raise DataError("data.link", f"{name} is a link.", "Put the file itself into the folder.")
        if file.is_file():
            parts.append(Part(file, name, split_of(name), file.stat().st_size))
        if len(parts) > MAX_FILES:
            raise DataError("data.too_many_files", f"There are more than {MAX_FILES} files.", "Join them into fewer.")
    if not parts:
        raise DataError(
            "data.no_files",
            f"There is no JSONL, JSON, CSV, Parquet or Arrow file in {path.name}.",
            "Give the folder in which the files lie.",
        )
    return parts


def read_file(path: Path) -> Iterator[Record]:
    """The rows of one file, whatever its kind. Raises DataError when it is none of ours."""
    container = containers.sniff(path)
    if container not in ("parquet", "arrow"):
        return containers.read(path, container)
    from training.engine.data import columnar  # late: pyarrow costs a second and 100 MB, and few files need it

    return columnar.read(path, container)


def read_parts(parts: list[Part], say: Reporter | None = None) -> Iterator[tuple[Part, Record]]:
    """All rows of ``parts`` in order. Progress is told in bytes, at least each 10,000 rows."""
    total = sum(part.size for part in parts)
    before, rows, told = 0, 0, time.monotonic()
    for part in parts:
        for record in read_file(part.path):
            yield part, record
            rows += 1
            if say and (rows % 10_000 == 0 or (rows % 100 == 0 and time.monotonic() - told > 0.5)):
                told = time.monotonic()
                say.phase("read", min(total, before + record.at), total, f"{rows:,} rows")
        before += part.size
    if say:
        say.phase("read", total, total, f"{rows:,} rows")
