"""The frozen lower blocks are computed once: later epochs and evaluations begin where training does.

With adapters on the upper blocks only, what the lower ones make of a row never changes. It is computed
the first time a row is seen, written to a file, and read from there afterwards.

A row's hidden states may differ in their last bits with the rows beside it, so that a training which
goes on after a kill must find the same ones: a missing row is computed together with the rows of its
micro-batch in the first epoch, whenever that is. The file has no name and is gone with its process.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten

from training.engine.errors import StorageError
from training.engine.rows import segments
from training.engine.rows.batches import Lengths, Rows
from training.engine.rows.layouts import Batch, Layout

_PROBE = [5, 3, 9, 4, 1, 7]


class Seam:
    """Where a model is cut in two: below it everything is frozen, above it something is trained."""

    def __init__(self, model: nn.Module, depth: int) -> None:
        """The lowest ``depth`` ≥ 1 blocks learn to be passed over. Their classes change, as in recompute.py."""
        self.model, self.depth = model, depth
        self._given: mx.array | None = None
        self._seen: mx.array | None = None
        self._listens = False
        for number, block in enumerate(model.layers[:depth]):
            kind = type(block)
            call = self._passing(kind.__call__, is_last=number == depth - 1)
            block.__class__ = type(f"Passed{kind.__name__}", (kind,), {"__call__": call})

    @contextmanager
    def instead(self, hidden: mx.array | None) -> Iterator[None]:
        """Take ``hidden`` for the output of the lower blocks; None: compute them."""
        before, self._given = self._given, hidden
        try:
            yield
        finally:
            self._given = before

    def below(self, batch: Batch) -> mx.array:
        """What the lower blocks make of ``batch``, (rows, width, hidden); the upper ones are not computed."""
        self._listens = True
        try:
            with segments.cut(batch.cuts):
                self.model(batch.ids)  # lazy: only what is looked at is computed
            assert self._seen is not None, "the blocks were run"
            mx.eval(self._seen)
            return self._seen
        finally:
            self._listens, self._seen = False, None

    def _passing(self, forward: Any, *, is_last: bool) -> Any:
        def call(block: nn.Module, x: mx.array, *args: Any, **kwargs: Any) -> Any:
            if self._given is not None and (kwargs.get("cache") is None):
                return self._given if is_last else x
            out = forward(block, x, *args, **kwargs)
            if is_last and self._listens:
                self._seen = out
            return out

        return call


def seam(model: nn.Module) -> Seam | None:
    """The seam under the lowest block with something to train; None where there is none, or it does not hold.

    Tried on a few tokens: the model must give the same when it begins at the seam.
    """
    depth = next((i for i, block in enumerate(model.layers) if tree_flatten(block.trainable_parameters())), 0)
    trained = len(tree_flatten(model.trainable_parameters()))
    above = sum(len(tree_flatten(block.trainable_parameters())) for block in model.layers[depth:])
    if depth == 0 or trained != above:
        return None
    made, was_training = Seam(model, depth), model.training
    model.eval()
    try:
        whole = model(mx.array([_PROBE]))
        none = mx.zeros(1)
        probe = Batch(mx.array([_PROBE]), none, none, none, none, none, none, 0, 0, 0, cuts=None)
        below = made.below(probe)
        with made.instead(below):
            again = model(mx.array([_PROBE]))
        return made if below.ndim == 3 and bool(mx.allclose(whole, again, rtol=1e-4, atol=1e-4).item()) else None
    except (ValueError, TypeError, AttributeError, RuntimeError, AssertionError):
        return None  # blocks that are called or answer in another way
    finally:
        model.train(was_training)


class Replay:
    """The hidden states of one split's rows at the seam, in a file."""

    def __init__(self, seam: Seam, rows: Rows, layout: Layout, together: Sequence[list[int]], folder: Path) -> None:
        """``together``: which rows are computed together; every row that is asked for stands in one of them.

        ``folder``: where the file lies, as large as tokens · hidden size · bytes of a number.
        """
        self._seam, self._rows, self._layout = seam, rows, layout
        self._lengths: Lengths = rows.lengths
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)])
        self._together = {row: numbers for numbers in together for row in numbers}
        self._folder = folder
        self._have = np.zeros(len(self._lengths), dtype=bool)
        self._file: np.memmap[Any, Any] | None = None
        self._dtype: mx.Dtype = mx.float32

    def on(self, batch: Batch, numbers: Sequence[int]) -> Batch:
        """``batch`` of the rows ``numbers`` with its hidden states at the seam."""
        for row in numbers:
            if not self._have[row]:
                self._compute(self._together[row])
        assert self._file is not None
        hidden = np.zeros((batch.ids.size, self._file.shape[1]), dtype=self._file.dtype)
        for here, there in self._places(batch, numbers):
            hidden[here] = self._file[there]
        made = mx.array(hidden)
        made = made if made.dtype == self._dtype else made.view(self._dtype)
        return replace(batch, below=made.reshape(*batch.ids.shape, -1))

    def _compute(self, numbers: list[int]) -> None:
        batch = self._layout.lay([self._rows.rows[i] for i in numbers])
        below = self._seam.below(batch)
        self._dtype = below.dtype
        flat = below.reshape(-1, below.shape[-1])
        made = np.asarray(flat if flat.dtype == mx.float32 else flat.view(mx.uint16))
        if self._file is None:
            self._file = self._made((int(self._starts[-1]), made.shape[1]), made.dtype)
        for here, there in self._places(batch, numbers):
            self._file[there] = made[here]
        self._have[numbers] = True

    def _places(self, batch: Batch, numbers: Sequence[int]) -> Iterator[tuple[slice, slice]]:
        """Where each sequence of the rows ``numbers`` lies in ``batch``, and where in the file."""
        starts = iter(batch.starts)
        for number in numbers:
            there = int(self._starts[number])
            for part in self._rows.rows[number].parts:
                here, length = next(starts), len(part.ids)
                yield slice(here, here + length), slice(there, there + length)
                there += length

    def _made(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> np.memmap[Any, Any]:
        size = shape[0] * shape[1] * dtype.itemsize
        free = shutil.disk_usage(self._folder).free
        if size > free:
            raise StorageError(
                "storage.activations",
                f"The cache of activations takes {size / 2**30:.2f} GiB, and {free / 2**30:.2f} GiB are free.",
                "Free some disk space, or switch cached activations off.",
            )
        with tempfile.TemporaryFile(dir=self._folder) as file:
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
