"""The rows of a data set version for the eye: any page of a file of any length, each text cut to a size."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlxplatform.core.errors import NotFound
from training.models import DatasetVersion

SPLITS = ("train", "valid", "test")
STRIDE = 256  # lines between two known places of a file
MAX_LINE = 4 << 20  # bytes of a line that are read; the import lets no row be longer than 1 MiB
TEXT = 1200  # characters of one text in a list of rows
WHOLE = 200_000  # characters of one text of a single row
_ANSWERS = ("chosen", "rejected", "completion", "answer")


@dataclass(frozen=True, slots=True)
class Turn:
    """A piece of a row: who says it and what. ``more``: characters that are not shown."""

    role: str
    text: str
    more: int = 0
    note: str = ""
    """What the row says about it: a margin, a label."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row by its number in the split's file (from 1)."""

    n: int
    turns: tuple[Turn, ...]

    @property
    def is_cut(self) -> bool:
        """Whether something of the row is not shown."""
        return any(turn.more for turn in self.turns)


def counts(version: DatasetVersion) -> dict[str, int]:
    """Rows by split, in the order train, valid, test; empty splits are left out."""
    rows = dict(zip(SPLITS, (version.rows_train, version.rows_valid, version.rows_test), strict=True))
    return {split: n for split, n in rows.items() if n}


def read(version: DatasetVersion, split: str, first: int, count: int, text: int = TEXT) -> list[Row]:
    """Rows ``first`` (from 1) to ``first + count - 1`` of a split, as far as there are any.

    Raises NotFound when the version's file is gone.
    """
    if split not in SPLITS:
        raise NotFound("dataset.split", "There is no such split.", "Choose train, valid or test.")
    path = version.folder / f"{split}.jsonl"
    try:
        return [Row(n, turns(_parsed(line), text)) for n, line in _lines(path, max(1, first), count)]
    except FileNotFoundError:
        raise NotFound(
            "dataset.file_gone", f"The rows of {version} are not on the disk any more.", "Import the data again."
        ) from None


def turns(row: Any, text: int = TEXT) -> tuple[Turn, ...]:
    """A row in the normal form as turns: a chat's own, prompt and completion, or one text.

    Answers that are compared or judged follow the turns of their prompt, with what is said about them.
    """
    if isinstance(row, dict) and isinstance(row.get("messages"), list):
        found = _said(row["messages"])
    elif isinstance(row, dict) and isinstance(row.get("prompt"), list):
        answers = [("reference" if name == "answer" else name, row[name]) for name in _ANSWERS if name in row]
        shown = [_turn(role, value, text) for role, value in (_said(row["prompt"]) + answers)[:200]]
        return tuple(replace(turn, note=_note(turn.role, row)) for turn in shown)
    elif isinstance(row, dict):
        found = [(str(name), value) for name, value in row.items()]
    else:
        found = [("unreadable", row)]
    return tuple(_turn(role, value, text) for role, value in found[:200])


def _said(messages: list[Any]) -> list[tuple[str, Any]]:
    return [(str(m.get("role", "")), m.get("content")) for m in messages if isinstance(m, dict)]


def _note(role: str, row: dict[str, Any]) -> str:
    if role == "chosen" and isinstance(row.get("margin"), int | float):
        return f"better by {row['margin']:g}"
    if role == "completion" and isinstance(row.get("label"), bool):
        return "good" if row["label"] else "bad"
    return ""


def _turn(role: str, value: Any, limit: int) -> Turn:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Turn(role[:40], text[:limit], max(0, len(text) - limit))


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line.decode("utf-8", "replace")


def _lines(path: Path, first: int, count: int) -> Iterator[tuple[int, bytes]]:
    """``(number, line)`` from line ``first`` on; no more than STRIDE lines are read over."""
    known = _places(str(path), path.stat().st_size)
    step = min((first - 1) // STRIDE, len(known) - 1)
    with open(path, "rb") as file:
        file.seek(known[step])
        n = step * STRIDE
        while n < first + count - 1 and (line := file.readline(MAX_LINE)):
            n += 1
            if n >= first:
                yield n, line


@lru_cache(maxsize=64)
def _places(path: str, size: int) -> array[int]:  # noqa: ARG001 - the size belongs to the cache's key
    """Where every STRIDE-th line of a file begins, in bytes. Versions never change, so it is found once."""
    places, at, n = array("Q", [0]), 0, 0
    with open(path, "rb") as file:
        for line in file:
            at += len(line)
            n += 1
            if n % STRIDE == 0:
                places.append(at)
    return places
