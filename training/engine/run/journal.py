"""The journal: one JSON object per line, written by the engine, read by everybody else.

A line is appended and flushed, never rewritten. ``n`` counts the lines of one attempt from 1, ``t``
is UTC seconds since the epoch, ``v`` the schema. Values that are not finite are written as the
strings ``"nan"``, ``"inf"`` and ``"-inf"``, because JSON has no word for them.

The closed list of events, their fields and units: ``docs/journal.md``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.engine import SCHEMA
from training.engine.errors import StorageError

EVENTS = frozenset(
    {
        "started",  # {pid, pgid, process_start, attempt, fence, host, boot_id, engine, python}
        "machine",  # {backend, name, memory, blas, threads, deterministic, mlx}
        "memory",  # {lines, total, limit, fits, calibration}, then {planned, measured, error}
        "phase",  # {name, detail?, done?, total?}
        "metrics",  # {step, of, values: {name: number}}
        "evaluated",  # {step, values: {name: number}}
        "sample",  # {step, index, prompt, text, reference, tokens, seconds}
        "checkpoint",  # {step, path, bytes, sha256, val_loss, best}
        "removed",  # {path}: a checkpoint that the keep rule took away
        "log",  # {level, message}
        "finished",  # {result: {...}}
        "stopped",  # {why, exit_code}
        "failed",  # {code, message, hint, family, trace, problems}
    }
)
LAST_WORDS = frozenset({"finished", "stopped", "failed"})
MAX_LINE = 1 << 20  # bytes; a longer line is cut at writing and passed over at reading


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a journal. ``fields`` keeps keys that this version does not know."""

    n: int
    t: float
    event: str
    fields: dict[str, Any] = field(default_factory=dict)


class Journal:
    """Appends events to one attempt's ``events.jsonl``. Safe to use from several threads.

    A full disk must not hide the reason why the training ends, so the writer raises
    :class:`StorageError` once and is silent afterwards; only the last word is tried once more,
    because the disk may have got some space back by then.
    """

    def __init__(self, path: Path, echo: Callable[[Event], None] | None = None) -> None:
        """Goes on after what is in ``path``: the count continues, a torn last line is closed."""
        self.path = path
        self._n = max((event.n for event in _all(path)), default=0)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the process
        self._torn = _is_torn(path)
        self._lock = threading.Lock()
        self._echo = echo
        self.broken = False

    def write(self, event: str, **fields: Any) -> None:
        """Append one event. Raises StorageError when the disk refuses it (once)."""
        if event not in EVENTS:
            raise ValueError(f"'{event}' is no event of the journal")
        with self._lock:
            if self.broken and event not in LAST_WORDS:
                return
            head: dict[str, Any] = {"v": SCHEMA, "n": self._n + 1, "t": round(time.time(), 3), "event": event}
            try:
                _write_all(self._file.fileno(), b"\n" * self._torn + _line(head, fields) + b"\n")
                self._torn = False
            except OSError as error:
                self.broken = self._torn = True
                raise StorageError(
                    "storage.journal",
                    f"The journal could not be written: {error.strerror}.",
                    "Free some disk space, then resume: everything up to the last checkpoint is kept.",
                ) from error
            self._n += 1
        if self._echo is not None:
            self._echo(Event(head["n"], head["t"], event, fields))

    def log(self, message: str, level: str = "info") -> None:
        """A line for people; levels are info, warning and error."""
        self.write("log", level=level, message=message[:4000])

    def close(self) -> None:
        """Flush to the disk and close; further writes are errors."""
        with self._lock:
            if not self._file.closed:
                with contextlib.suppress(OSError):  # a full disk was already reported by write()
                    os.fsync(self._file.fileno())
                self._file.close()


def read(path: Path, offset: int = 0, limit: int = 4 << 20) -> tuple[list[Event], int]:
    """The complete lines after byte ``offset`` (at most ``limit`` bytes), and the new offset.

    A torn last line is left for the next call. A line that is no event is passed over: it is for
    the log, not a reason to stop reading. A missing file reads as empty.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            block = file.read(limit)
    except FileNotFoundError:
        return [], offset
    end = block.rfind(b"\n") + 1
    if end == 0 and len(block) == limit:
        return [], offset + len(block)  # one absurd line: pass over it in pieces
    return list(_parse(block[:end])), offset + end


def last_word(path: Path) -> Event | None:
    """The attempt's last word, if it said one. Reads only the file's tail."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    events, _ = read(path, max(0, size - 2 * MAX_LINE), 2 * MAX_LINE)
    for event in reversed(events):
        if event.event in LAST_WORDS:
            return event
    return None


def number(value: Any) -> float | None:
    """A journal number as float; None when it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _all(path: Path) -> Iterator[Event]:
    """Every event of a journal, in pieces."""
    offset = 0
    while True:
        events, after = read(path, offset)
        yield from events
        if after == offset:
            return
        offset = after


def _is_torn(path: Path) -> bool:
    """Whether the file ends in the middle of a line, as a kill or a full disk leaves it."""
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _line(head: dict[str, Any], fields: dict[str, Any]) -> bytes:
    """One event as JSON of less than ``MAX_LINE`` bytes; long texts are cut, and if need be everything is."""
    line = _json(head | fields)
    if len(line) >= MAX_LINE:
        line = _json(head | {k: (v[:2000] if isinstance(v, str) else v) for k, v in fields.items() if k != "problems"})
    if len(line) >= MAX_LINE:
        line = _json(head | {"cut": len(line)})
    return line


def _json(row: dict[str, Any]) -> bytes:
    text = json.dumps(_finite(row), ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode(errors="replace")  # half of a surrogate pair, from a row or a file name, has no bytes


def _parse(block: bytes) -> Iterator[Event]:
    for line in block.splitlines():
        if len(line) > MAX_LINE:
            continue
        try:
            row = json.loads(line)
            n, t, name = int(row.pop("n")), float(row.pop("t")), str(row.pop("event"))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
        row.pop("v", None)
        yield Event(n, t, name, row)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
