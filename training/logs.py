"""The raw output of an attempt, by byte offset, made safe to show."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlxplatform.core.errors import NotFound
from training.models import Job

#: Escape sequences of terminals, and control characters but for line ends and tabs.
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a log: its text, the byte after it, and the file's size."""

    text: str
    next: int
    size: int


def read_log(job: Job, attempt: int = 0, offset: int = 0, limit: int = 64 << 10) -> Block:
    """At most ``limit`` bytes from byte ``offset`` (negative: from the end) of an attempt's output (0: the newest).

    Bytes that are no UTF-8 become replacement characters, terminal escapes go, a progress bar's
    carriage returns become line ends. Raises NotFound for an attempt that the job does not have.
    """
    row = job.attempts.filter(n=attempt).first() if attempt else job.attempt
    if attempt and row is None:
        raise NotFound(
            "attempt.unknown", f"Job #{job.number} has no attempt {attempt}.", "Leave it out for the newest."
        )
    if row is None:
        return Block("", 0, 0)
    try:
        with open(row.folder.stdout, "rb") as file:
            size = file.seek(0, 2)
            start = max(0, size + offset) if offset < 0 else min(offset, size)
            file.seek(start)
            raw = file.read(limit)
    except FileNotFoundError:
        return Block("", 0, 0)
    return Block(plain(raw.decode("utf-8", "replace")), start + len(raw), size)


def plain(text: str) -> str:
    """``text`` without terminal escapes and control characters."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
