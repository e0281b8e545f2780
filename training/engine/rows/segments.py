"""Many rows on one token axis, attention cut where rows end.

A linear layer does not care which row a token is from, so rows can lie end to end, without padding.
Only attention must not look across a border. mlx-lm's families call one function for it,
``scaled_dot_product_attention``, imported by name into each model's module; it is replaced there by
one that cuts first while :func:`cut` says where, and does what it always did otherwise. Positions
run on over the whole axis: rotary embeddings depend on differences only. Whether a family fits is
tried at load (:func:`training.engine.rows.layouts.choose`), not believed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine.machine import cpu_math

_STOCK = "_mlxp_stock"
_ATTENTION, _MASK = "scaled_dot_product_attention", "create_attention_mask"
STEP = 256  # tokens of a row whose attention is computed at once, without a GPU's kernels

#: Attention of the queries at places first … last − 1 of a row to its keys and values 0 … last − 1.
Attention = Callable[[mx.array, mx.array, mx.array, int, int], mx.array]


@dataclass(frozen=True, slots=True)
class ByRow:
    """Rows one after the other: exact, no padding, another shape for every batch."""

    lengths: tuple[int, ...]
    """Tokens of each row; together the whole axis."""

    @property
    def longest(self) -> int:
        return max(self.lengths)

    def attend(self, one: Attention, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """``one`` attention per row over (1, heads, tokens, size), laid end to end again.

        A long row goes in steps: nothing is computed for most of what stands to the right of a token.
        """
        outs, start = [], 0
        for length in self.lengths:
            for first in range(0, length, STEP):
                last = min(first + STEP, length)
                seen = slice(start, start + last)
                outs.append(one(q[:, :, start + first : start + last], k[:, :, seen], v[:, :, seen], first, last))
            start += length
        return mx.concatenate(outs, axis=2) if len(outs) > 1 else outs[0]


@dataclass(frozen=True, slots=True)
class BySlot:
    """Rows brought into ``slots`` of one width for attention and back: few shapes, fit to be compiled.

    Row s lies in ``slots[s]``, from the left. A causal model never looks right, so what fills up a slot
    is seen by nobody. At least one token of the axis and one place of the slots are filling; they stand
    for each other, and no gradient reaches them, so every sum over tokens stays what it is.
    """

    slots: mx.array
    """(rows, width): the token in each place; the filling token where there is none."""
    back: mx.array
    """(tokens,): the place of each token; a filling place for the filling tokens."""

    @property
    def longest(self) -> int:
        return int(self.slots.shape[1])

    def attend(self, one: Attention, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """One attention over all the slots at once."""
        rows, width = self.slots.shape
        place = self.slots.reshape(-1)

        def spread(x: mx.array) -> mx.array:
            _, heads, tokens, size = x.shape
            flat = x.transpose(0, 2, 1, 3).reshape(tokens, heads * size)
            return _moved(flat, place, self.back).reshape(rows, width, heads, size).transpose(0, 2, 1, 3)

        out = one(spread(q), spread(k), spread(v), 0, width)
        _, heads, _, size = out.shape
        flat = out.transpose(0, 2, 1, 3).reshape(rows * width, heads * size)
        flat = _moved(flat, self.back, place)
        return flat.reshape(1, -1, heads, size).transpose(0, 2, 1, 3)


Cuts = ByRow | BySlot
_now: Cuts | None = None


@contextmanager
def cut(cuts: Cuts | None) -> Iterator[None]:
    """Cut attention like this inside, also when a backward pass computes a block again."""
    global _now  # noqa: PLW0603 - what mlx-lm's function signature has no room for
    before, _now = _now, cuts
    try:
        yield
    finally:
        _now = before


def current() -> Cuts | None:
    """Where attention is cut now; None: nowhere."""
    return _now


def _moved(x: mx.array, there: mx.array, back: mx.array) -> mx.array:
    """Rows ``there`` of ``x`` (n, size). ``back`` undoes it, so the gradient is a gather, too: no atomic sums."""
    made: Any = _gathered(x, there, back)
    return made


@mx.custom_function
def _gathered(x: mx.array, there: mx.array, back: mx.array) -> mx.array:
    del back
    return mx.take(x, there, axis=0)


@_gathered.vjp
def _moved_back(primals: Any, cotangent: mx.array, _output: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    _, there, back = primals
    return mx.take(cotangent, back, axis=0), mx.zeros_like(there), mx.zeros_like(back)


def install(model: nn.Module) -> bool:
    """Teach the modules of ``model``'s classes to cut; False when they have no such function."""
    names = {type(module).__module__ for module in model.modules()}
    found = [sys.modules[name] for name in names if hasattr(sys.modules.get(name), _ATTENTION)]
    for module in found:
        if not hasattr(getattr(module, _ATTENTION), _STOCK):
            setattr(module, _ATTENTION, _cutting(getattr(module, _ATTENTION)))
        if hasattr(module, _MASK) and not hasattr(getattr(module, _MASK), _STOCK):
            setattr(module, _MASK, _short(getattr(module, _MASK)))
    return bool(found)


def _cutting(stock: Callable[..., mx.array]) -> Callable[..., mx.array]:
    def attention(  # noqa: PLR0917 - mlx-lm's signature
        queries: mx.array, keys: mx.array, values: mx.array, cache: Any, scale: float, mask: Any, **more: Any
    ) -> mx.array:
        if _now is None or cache is not None:
            return stock(queries, keys, values, cache=cache, scale=scale, mask=mask, **more)

        def one(q: mx.array, k: mx.array, v: mx.array, first: int, last: int) -> mx.array:
            # A mask made for the longest row fits every shorter one: windows do not move with the position.
            part = mask[..., first:last, :last] if isinstance(mask, mx.array) else None
            if isinstance(_now, ByRow) and q.dtype == mx.float32 and not more.get("sinks"):
                return cpu_math.attention(q, k, v, scale, part, first=first)
            return stock(q, k, v, cache=None, scale=scale, mask="causal" if part is None else part, **more)

        return _now.attend(one, queries, keys, values)

    setattr(attention, _STOCK, stock)
    return attention


def _short(stock: Callable[..., Any]) -> Callable[..., Any]:
    def create_attention_mask(h: mx.array, cache: Any = None, *args: Any, **more: Any) -> Any:
        if _now is not None and cache is None:
            # Of the longest row's size: one over the whole axis would be its square.
            h = mx.zeros((1, max(2, _now.longest), 1))
        return stock(h, cache, *args, **more)

    setattr(create_attention_mask, _STOCK, stock)
    return create_attention_mask
