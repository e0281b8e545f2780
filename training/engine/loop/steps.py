"""The arithmetic of an update: losses and gradients of micro-batches, their sum, the change of the weights.

On a GPU both halves are compiled, once for each shape of a batch; on a CPU they run as they read.
Gradients are summed in float32 and divided once by all the units (tokens, examples) of the update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.optimizers as mo
from mlx import nn
from mlx.utils import tree_map

from training.engine.learning.method import Method, Terms
from training.engine.optimizers import factory
from training.engine.rows import segments
from training.engine.rows.layouts import Batch
from training.engine.rows.replay import Seam

Arrays = dict[str, mx.array]
_SCALE = "options.scale"
Gradients = Any
"""A tree like the model's trainable parameters."""


class Steps:
    """Computes; keeps nothing but the model and the optimizer it was given."""

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        optimizer: mo.Optimizer,
        *,
        longest: float,
        seam: Seam | None,
        compiled: bool,
    ) -> None:
        """``longest``: a gradient longer than this is shortened to it; 0: never. ``compiled``: as on a GPU."""
        self.model, self.method, self.optimizer, self.longest, self.seam = model, method, optimizer, longest, seam
        self.compiled = compiled
        self._scale: mx.array | None = None
        self._shapes: set[tuple[object, ...]] = set()
        self._value_and_grad = nn.value_and_grad(model, self._loss_and_terms)
        self._first: Callable[[Arrays], tuple[Terms, Gradients]] = self._gradients
        self._next: Callable[[Arrays, Gradients], tuple[Terms, Gradients]] = self._added
        self._apply: Callable[[Gradients, mx.array], mx.array] = self._change
        self._loss: Callable[[Arrays], Terms] = lambda arrays: self._plain_loss(Batch.of(arrays))
        if compiled:
            # All that a compiled function reads must be named, and what it may replace, even by itself: weights
            # are put into the model while it is traced.
            state = [model.state, mx.random.state]
            self._first = mx.compile(self._gradients, inputs=state, outputs=state)
            self._next = mx.compile(self._added, inputs=state, outputs=state)
            self._loss = mx.compile(self._loss, inputs=state, outputs=state)
            both = [model.state, optimizer.state]
            self._apply = mx.compile(self._change, inputs=both, outputs=both)

    def is_new(self, batch: Batch) -> bool:
        """Whether a batch of this shape comes for the first time, so that kernels must be compiled."""
        if not self.compiled:
            return False
        shape = tuple(sorted((name, array.shape) for name, array in batch.arrays().items()))
        new = (self.model.training, shape) not in self._shapes
        self._shapes.add((self.model.training, shape))
        return new

    def micro_batch(
        self, batch: Batch, so_far: Gradients, scale: float | None = None
    ) -> tuple[dict[str, float], Gradients]:
        """The method's sums over ``batch``, and its gradients added to those ``so_far`` (None: the first).

        ``scale``: what the loss is multiplied by for the gradients, and they are divided by afterwards.
        """
        self._scale = mx.array(scale) if scale is not None else None
        if self.compiled:
            arrays = batch.arrays() | ({_SCALE: self._scale} if self._scale is not None else {})
            terms, gradients = self._first(arrays) if so_far is None else self._next(arrays, so_far)
        else:
            terms, gradients = self._summed(batch, so_far)
        mx.eval(terms, gradients)
        return _numbers(terms), gradients

    def length(self, gradients: Gradients) -> float:
        """Of the ``gradients`` as they are summed up; not finite where one of them is not."""
        return _number(factory.norm(gradients))

    def update(self, gradients: Gradients, units: int, rate: float) -> float:
        """Change the weights by ``gradients`` / ``units`` at ``rate``; returns the length before shortening."""
        self.optimizer.learning_rate = rate
        length = self._apply(gradients, mx.array(float(max(1, units))))
        mx.eval(length, self.model.trainable_parameters(), self.optimizer.state)
        return _number(length)

    def terms(self, batch: Batch) -> dict[str, float]:
        """The method's sums over ``batch``; nothing changes."""
        made = self._loss(batch.arrays()) if self.compiled else self._plain_loss(batch)
        mx.eval(made)
        return _numbers(made)

    def _loss_and_terms(self, batch: Batch) -> tuple[mx.array, Terms]:
        terms = self.method.loss(self.model, batch)
        return terms["loss"] if self._scale is None else terms["loss"] * self._scale, terms

    def _plain_loss(self, batch: Batch) -> Terms:
        with self._laid_out(batch):
            return self.method.loss(self.model, batch)

    @contextmanager
    def _laid_out(self, batch: Batch) -> Iterator[None]:
        """The model computes on rows that lie as ``batch``'s do."""
        with segments.cut(batch.cuts):
            if self.seam is None:
                yield
            else:
                with self.seam.instead(batch.below):
                    yield

    def _gradients(self, arrays: Arrays) -> tuple[Terms, Gradients]:
        return self._added(arrays, None)

    def _added(self, arrays: Arrays, so_far: Gradients) -> tuple[Terms, Gradients]:
        self._scale = arrays.get(_SCALE)
        return self._summed(Batch.of(arrays), so_far)

    def _summed(self, batch: Batch, so_far: Gradients) -> tuple[Terms, Gradients]:
        with self._laid_out(batch):  # the backward pass runs blocks again, if they keep nothing
            (_, terms), gradients = self._value_and_grad(batch)
        # Laid out as a file holds them: sums over another layout round differently after a resume.
        gradients = tree_map(lambda g: mx.contiguous(g.astype(mx.float32)), gradients)
        if self._scale is not None:
            gradients = tree_map(lambda g: g / self._scale, gradients)
        return terms, gradients if so_far is None else tree_map(mx.add, so_far, gradients)

    def _change(self, gradients: Gradients, units: mx.array) -> mx.array:
        gradients = tree_map(lambda g: g / units, gradients)
        length = factory.norm(gradients)
        gradients = factory.clip(gradients, length, self.longest)
        self.optimizer.update(self.model, gradients)
        return length


def _numbers(terms: Terms) -> dict[str, float]:
    return {name: _number(value) for name, value in terms.items()}


def _number(value: mx.array) -> float:
    return float(value.item())  # type: ignore[arg-type]  # real by construction
