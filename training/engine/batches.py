"""Rows of tokens, and the order in which micro-batches of them are seen.

The order of an epoch is a pure function of seed, epoch and row lengths, so a position in it is two
numbers: :class:`Cursor`. Rows of similar length share a batch, to waste little on padding; batches
are shuffled anew every epoch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from training.engine.errors import DataError, EngineError
from training.engine.masks import Encoded

#: Rows are sorted by length within windows of so many batches: enough to fill them evenly, few
#: enough that every epoch mixes rows differently.
WINDOW = 32


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where in the data a training stands: ``index`` micro-batches of epoch ``epoch`` are done."""

    epoch: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch. ``ids`` and ``trained`` have the shape (rows, longest row)."""

    ids: mx.array
    trained: mx.array
    tokens: int
    """Number of trained targets."""
    total: int
    """Number of tokens that are not padding."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Encoded rows of one split."""

    rows: list[Encoded]
    left_out: int
    """Rows that train nothing."""
    cut: int
    """Rows that were longer than the sequence length."""

    @property
    def lengths(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Tokens of each row."""
        return np.array([len(row.ids) for row in self.rows], dtype=np.int64)

    @property
    def trained_tokens(self) -> int:
        """Trained targets of all rows; the first token of a row is never a target."""
        return sum(sum(row.trained[1:]) for row in self.rows)


def read(path: Path, encode: Callable[[dict[str, Any]], Encoded], tell: Callable[[int], None]) -> Rows:
    """The rows of ``path`` (JSON lines), encoded. ``tell`` hears how many are done, now and then.

    A missing file reads as no rows: a data set need not have every split.
    """
    kept: list[Encoded] = []
    left_out = cut = 0
    if not path.exists():
        return Rows([], 0, 0)
    with open(path, "rb") as file:
        for n, line in enumerate(file, 1):
            try:
                row = encode(json.loads(line))
            except DataError as error:
                raise DataError(error.code, f"Row {n} of {path.name}: {error.message}", error.hint) from error
            except EngineError:
                raise  # a model's fault is not the row's
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise DataError(
                    "data.row", f"Row {n} of {path.name} cannot be read: {error}.", "Import the data set again."
                ) from error
            cut += row.cut > 0
            if any(row.trained[1:]):
                kept.append(row)
            else:
                left_out += 1
            if n % 500 == 0:
                tell(n)
    return Rows(kept, left_out, cut)


def order(lengths: np.ndarray[Any, np.dtype[np.int64]], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The micro-batches of one epoch as lists of row numbers; every row stands in exactly one."""
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    shuffled = random.permutation(len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), batch_size * WINDOW):
        window = shuffled[start : start + batch_size * WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[i : i + batch_size].tolist() for i in range(0, len(window), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def stack(rows: list[Encoded]) -> Batch:
    """``rows`` padded on the right with token 0, which is never trained and never looked at."""
    width = max(len(row.ids) for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int32)
    trained = np.zeros((len(rows), width), dtype=np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        trained[i, : len(row.ids)] = row.trained
    tokens, total = int(trained[:, 1:].sum()), sum(len(row.ids) for row in rows)
    return Batch(mx.array(ids), mx.array(trained), tokens, total)


class Stream:
    """Micro-batches for ever, epoch after epoch, from a cursor on."""

    def __init__(self, rows: Rows, batch_size: int, seed: int, cursor: Cursor = Cursor()) -> None:
        self._rows, self._batch_size, self._seed = rows, batch_size, seed
        self._lengths = rows.lengths
        self.cursor = cursor
        self._order = order(self._lengths, batch_size, seed, cursor.epoch)

    @property
    def per_epoch(self) -> int:
        """Micro-batches in an epoch."""
        return -(-len(self._rows.rows) // self._batch_size)

    @property
    def epochs(self) -> float:
        """Epochs done so far, with the fraction."""
        return self.cursor.epoch + self.cursor.index / self.per_epoch

    def next(self) -> Batch:
        """The micro-batch at the cursor, which moves on."""
        batch = stack([self._rows.rows[i] for i in self._order[self.cursor.index]])
        if self.cursor.index + 1 < self.per_epoch:
            self.cursor = Cursor(self.cursor.epoch, self.cursor.index + 1)
        else:
            self.cursor = Cursor(self.cursor.epoch + 1, 0)
            self._order = order(self._lengths, self._batch_size, self._seed, self.cursor.epoch)
        return batch


def in_order(rows: Rows, batch_size: int, most: int = -1) -> Iterator[Batch]:
    """Batches for evaluation: shortest rows first, always the same; at most ``most`` of them."""
    indices = np.argsort(rows.lengths, kind="stable")
    starts = list(range(0, len(indices), batch_size))
    if 0 <= most < len(starts):
        # An even choice over all lengths, so that few batches still stand for the whole.
        starts = [starts[i * len(starts) // most] for i in range(most)]
    for start in starts:
        yield stack([rows.rows[i] for i in indices[start : start + batch_size]])
