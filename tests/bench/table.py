"""Medians, spreads and ratios of several rounds, as markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.run import Run

Measure = Callable[[Run], float | None]


@dataclass(frozen=True, slots=True)
class Spread:
    """What was seen over the rounds."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        """None if there is nothing."""
        return cls(statistics.median(values), min(values), max(values), len(values)) if values else None

    def text(self, unit: str = "") -> str:
        """``12.3 (11.9–12.8)``, the range only if there were several."""
        middle = f"{number(self.median)}{unit}"
        return middle if self.count == 1 else f"{middle} ({number(self.least)}–{number(self.most)})"


def number(value: float) -> str:
    """Three significant figures, and no exponent."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def spread(runs: list[Run], row: str, measure: Measure) -> Spread | None:
    """Of one row's runs."""
    found = [measure(run) for run in runs if run.row == row and not run.skipped]
    return Spread.of([value for value in found if value is not None])


def ratio(runs: list[Run], row: str, base: str, measure: Measure) -> Spread | None:
    """Of ``row`` to ``base``, taken within each round: what slows the machine down slows both.

    Where they share no round, of the medians.
    """
    by_round = {run.round: measure(run) for run in runs if run.row == base and not run.skipped}
    found = []
    for run in runs:
        below = by_round.get(run.round)
        above = measure(run) if run.row == row and not run.skipped else None
        if above is not None and below:
            found.append(above / below)
    if found:
        return Spread.of(found)
    mine, theirs = spread(runs, row, measure), spread(runs, base, measure)
    return Spread.of([mine.median / theirs.median]) if mine and theirs and theirs.median else None


@dataclass(frozen=True, slots=True)
class Column:
    """One column: a measure, shown by itself or as a ratio to the base row."""

    title: str
    measure: Measure
    unit: str = ""
    to_base: bool = False


def disturbed(runs: list[Run], most: float = 0.05) -> list[str]:
    """A sentence if other programs took more than the share ``most`` of the machine during a run."""
    shares = [run.others for run in runs if not run.skipped]
    if not shares or max(shares) <= most:
        return []
    return [
        f"Not a quiet machine: other programs took up to {100 * max(shares):.0f} % of it during a run "
        f"({100 * statistics.median(shares):.0f} % in the median)."
    ]


def row_of(runs: list[Run], name: str, label: str, columns: list[Column], base: str) -> str:
    """One line of the table, or the reason why the row is empty."""
    mine = [run for run in runs if run.row == name]
    ran = [run for run in mine if not run.skipped]
    if mine and not ran:
        return f"| {label} | not run: {mine[-1].skipped} |" + " |" * (len(columns) - 1)
    cells = []
    for column in columns:
        found = ratio(runs, name, base, column.measure) if column.to_base else spread(runs, name, column.measure)
        cells.append(found.text(column.unit) if found else "–")
    return f"| {label} | " + " | ".join(cells) + " |"


def markdown(runs: list[Run], rows: list[tuple[str, str]], columns: list[Column], base: str) -> str:
    """The whole table: ``rows`` are names and labels; rows that were not asked for are left out."""
    names = {run.row for run in runs}
    head = "| | " + " | ".join(column.title for column in columns) + " |"
    lines = [row_of(runs, name, label, columns, base) for name, label in rows if name in names]
    return "\n".join([head, "|---" * (len(columns) + 1) + "|", *lines])
