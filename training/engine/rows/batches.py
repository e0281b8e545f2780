"""Rows of tokens, and the order in which micro-batches of them are seen.

The order of an epoch is a pure function of seed, epoch and row lengths, so a position in it is two
numbers: :class:`Cursor`. How the rows of a micro-batch lie in arrays is the layout's business.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.engine.errors import DataError, EngineError
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Batch, Layout

#: Rows are sorted by length within windows of so many batches: enough to fill them evenly, few
#: enough that every epoch mixes rows differently.
WINDOW = 32
BLUR = 0.1  # share of its length by which a row may stand elsewhere in that order

Lengths = np.ndarray[Any, np.dtype[np.int64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]
Share = Callable[[list[int], list[int]], list[int]]
"""Which rows of a micro-batch, given with their lengths, are computed in this process."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where in the data a training stands: ``index`` micro-batches of epoch ``epoch`` are done."""

    epoch: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """Encoded rows of one split."""

    rows: list[Example]
    left_out: int
    """Rows that train nothing."""
    cut: int
    """Rows that were longer than the sequence length."""

    @property
    def lengths(self) -> Lengths:
        """Tokens of each row."""
        return np.array([row.length for row in self.rows], dtype=np.int64)

    @property
    def trained_tokens(self) -> int:
        """Trained targets of all rows."""
        return sum(row.targets for row in self.rows)


def sequence_lengths(rows: Iterable[Example]) -> list[int]:
    """Tokens of every sequence, the longest first."""
    return sorted((len(part.ids) for row in rows for part in row.parts), reverse=True)


def read(
    path: Path,
    encode: Callable[[dict[str, Any]], list[Example]],
    tell: Callable[[int], None],
    keeps: Callable[[Example], bool] = lambda example: example.teaches,
) -> Rows:
    """The rows of ``path`` (JSON lines), encoded. ``tell`` hears how many are done, now and then.

    Rows that ``keeps`` refuses are counted and left out.

    A missing file reads as no rows: a data set need not have every split.
    """
    kept: list[Example] = []
    left_out = cut = 0
    if not path.exists():
        return Rows([], 0, 0)
    with open(path, "rb") as file:
        for n, line in enumerate(file, 1):
            try:
                rows = encode(json.loads(line))
            except DataError as error:
                raise DataError(error.code, f"Row {n} of {path.name}: {error.message}", error.hint) from error
            except EngineError:
                raise  # a model's fault is not the row's
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise DataError(
                    "data.row", f"Row {n} of {path.name} cannot be read: {error}.", "Import the data set again."
                ) from error
            useful = [row for row in rows if keeps(row)]
            kept += useful
            cut += any(row.cut for row in rows)
            left_out += not useful
            if n % 500 == 0:
                tell(n)
    return Rows(kept, left_out, cut)


def order(lengths: Lengths, size: Size, seed: int, epoch: int, *, sort: bool) -> list[list[int]]:
    """The micro-batches of one epoch as lists of row numbers; every row stands in exactly one.

    With ``sort`` rows of similar length share a batch; lengths are blurred a little, so that they are
    not the same rows in every epoch.
    """
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    shuffled = random.permutation(len(lengths))
    if not sort:
        return size.split(lengths, shuffled)
    batches: list[list[int]] = []
    blurred = lengths * random.uniform(1 - BLUR, 1 + BLUR, len(lengths))
    window = WINDOW * size.rows(lengths)
    for start in range(0, len(shuffled), window):
        part = shuffled[start : start + window]
        batches += size.split(lengths, part[np.argsort(blurred[part], kind="stable")])
    return [batches[i] for i in random.permutation(len(batches))]


@dataclass(frozen=True, slots=True)
class ByRows:
    """Micro-batches of a fixed number of rows."""

    count: int

    def rows(self, lengths: Lengths) -> int:
        """Rows of a micro-batch."""
        del lengths
        return self.count

    def split(self, lengths: Lengths, ordered: Numbers) -> list[list[int]]:
        """``ordered`` cut into micro-batches."""
        del lengths
        return [ordered[i : i + self.count].tolist() for i in range(0, len(ordered), self.count)]


@dataclass(frozen=True, slots=True)
class ByTokens:
    """Micro-batches of as many rows as fit into ``budget`` tokens; a longer row has one of its own."""

    budget: int

    def rows(self, lengths: Lengths) -> int:
        """Rows of a micro-batch, on average."""
        return max(1, int(self.budget / max(1.0, float(lengths.mean()))))

    def split(self, lengths: Lengths, ordered: Numbers) -> list[list[int]]:
        """``ordered`` cut into micro-batches. One token stays free: fixed shapes need a filling."""
        batches: list[list[int]] = []
        held = self.budget
        for index in ordered.tolist():
            held += int(lengths[index])
            if held >= self.budget:
                batches.append([])
                held = int(lengths[index])
            batches[-1].append(index)
        return batches


Size = ByRows | ByTokens


def every(numbers: list[int], lengths: list[int]) -> list[int]:
    """The share of a process that trains alone."""
    del lengths
    return numbers


class Stream:
    """Micro-batches for ever, epoch after epoch, from a cursor on."""

    def __init__(
        self, rows: Rows, size: Size, layout: Layout, seed: int, cursor: Cursor = Cursor(), *, share: Share = every
    ) -> None:
        self._rows, self._size, self._layout, self._seed, self._share = rows, size, layout, seed, share
        self._lengths = rows.lengths
        self._order: list[list[int]] = []
        self.seek(cursor)

    def seek(self, cursor: Cursor) -> None:
        """Go to ``cursor``."""
        self.cursor = cursor
        self._order = order(self._lengths, self._size, self._seed, cursor.epoch, sort=self._layout.sorts)

    @property
    def first_epoch(self) -> list[list[int]]:
        """Row numbers of the first epoch's micro-batches."""
        return order(self._lengths, self._size, self._seed, 0, sort=self._layout.sorts)

    @property
    def per_epoch(self) -> int:
        """Micro-batches in this epoch."""
        return len(self._order)

    @property
    def epochs(self) -> float:
        """Epochs done so far, with the fraction."""
        return self.cursor.epoch + self.cursor.index / self.per_epoch

    def next(self) -> tuple[Batch | None, list[int]]:
        """This process's share of the micro-batch at the cursor, which moves on, and the numbers of its rows."""
        whole = self._order[self.cursor.index]
        numbers = self._share(whole, self._lengths[whole].tolist())
        batch = _laid(self._rows, numbers, self._layout)
        if self.cursor.index + 1 < self.per_epoch:
            self.cursor = Cursor(self.cursor.epoch, self.cursor.index + 1)
        else:
            self.seek(Cursor(self.cursor.epoch + 1, 0))
        return batch, numbers


def in_order(
    rows: Rows, size: Size, layout: Layout, most: int = -1, share: Share = every
) -> Iterator[tuple[Batch | None, list[int]]]:
    """Batches for evaluation: shortest rows first, always the same; at most ``most`` of them."""
    batches = batches_in_order(rows, size)
    if 0 <= most < len(batches):
        # An even choice over all lengths, so that few batches still stand for the whole.
        batches = [batches[i * len(batches) // most] for i in range(most)]
    for whole in batches:
        numbers = share(whole, rows.lengths[whole].tolist())
        yield _laid(rows, numbers, layout), numbers


def batches_in_order(rows: Rows, size: Size) -> list[list[int]]:
    """Row numbers of all the batches of an evaluation."""
    return size.split(rows.lengths, np.argsort(rows.lengths, kind="stable"))


def _laid(rows: Rows, numbers: list[int], layout: Layout) -> Batch | None:
    """The rows as arrays; None for no row."""
    return layout.lay([rows.rows[i] for i in numbers]) if numbers else None
