"""The line of time of a run: how long each step waited, ran or stood before a person. Pure, in percent of the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Look = Literal["wait", "run", "approval", "moment"]
Span = tuple[Look, datetime, datetime]
LEAST = 0.5  # percent: what is shorter is drawn this wide
TICKS = 4
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 604800, 2592000)


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch of time."""

    look: Look
    x: float
    width: float
    seconds: float


def bars(begin: datetime, end: datetime, spans: Iterable[Span]) -> list[Bar]:
    """The spans between ``begin`` and ``end``, each wide enough to be seen and none beyond the edge."""
    whole = max((end - begin).total_seconds(), 1.0)
    made = []
    for look, start, stop in spans:
        seconds = max(0.0, (stop - start).total_seconds())
        width = min(100.0, max(LEAST, 100 * seconds / whole))
        x = min(100 - width, max(0.0, 100 * (start - begin).total_seconds() / whole))
        made.append(Bar(look, round(x, 3), round(width, 3), seconds))
    return made


def ticks(seconds: float) -> list[tuple[float, str]]:
    """(place in percent, time since the beginning) of a few round moments."""
    whole = max(seconds, 1.0)
    step = next((step for step in STEPS if whole / step <= TICKS), STEPS[-1])
    count = min(int(whole // step), TICKS)
    return [(round(100 * n * step / whole, 3), _round(n * step)) for n in range(count + 1)]


def _round(seconds: int) -> str:
    """A round time in its largest whole unit, two of them if needed."""
    if seconds == 0:
        return "0"
    for unit, size, less, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size}\u00a0{unit}" + (f" {rest}\u00a0{less}" if rest else "")
    return f"{seconds}\u00a0s"
