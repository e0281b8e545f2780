"""How the rows of a micro-batch lie in arrays: one token axis, or one padded row under the other.

- ``flat``: one token axis, no padding, another shape for every batch. For a CPU, which runs as it reads.
- ``slots``: one token axis of a few fixed lengths, attention in slots of a few fixed widths. For a GPU,
  where a step is compiled once per shape and shapes must be few.
- ``padded``: rows padded on the right, for families whose layers look along the axis (state spaces,
  learned positions). On a GPU to a few widths.

All give the same sums over trained tokens (``tests/engine/rows/test_layouts.py``, family by family).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from mlx import nn

from training.engine.machine import cpu_math
from training.engine.rows import segments
from training.engine.rows.examples import Example
from training.engine.rows.masks import Encoded
from training.engine.rows.segments import ByRow, BySlot, Cuts

#: Lengths that a fixed shape may have, each at most half as long again as the one before; longer ones are
#: multiples of the last.
_SIZES = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
_PROBE = (6, 3, 5)  # tokens of the rows that a family is tried on
_NUMBER, _EXTRA = "numbers.", "extra."  # before the names of a batch's further arrays


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch. Its tokens lie in ``ids``; what the loss needs is listed target by target."""

    ids: mx.array
    """(rows, width), or (1, tokens) on one axis."""
    at: mx.array
    """(targets,): places in ``ids.reshape(-1)`` that predict a trained token."""
    targets: mx.array
    """(targets,): the tokens to be predicted."""
    counted: mx.array
    """(targets,): 1, or 0 where a fixed shape is filled up."""
    row: mx.array
    """(targets,): number of the sequence in the batch, for methods that sum up whole sequences."""
    real: mx.array
    """(examples,): 1, or 0 where a fixed shape is filled up."""
    ends: mx.array
    """(examples * parts,): place of each sequence's last token in ``ids.reshape(-1)``; 0 for a filling."""
    tokens: int
    """Trained targets, fillings not counted."""
    total: int
    """Tokens, padding not counted."""
    examples: int
    """Examples, fillings not counted."""
    cuts: Cuts | None
    starts: tuple[int, ...] = ()
    """Place of each row's first token in ``ids.reshape(-1)``."""
    below: mx.array | None = None
    """(rows, width, hidden): what the frozen lower blocks make of the tokens, if that is known already."""
    numbers: dict[str, mx.array] = field(default_factory=dict)
    """(examples,) each: see :class:`training.engine.rows.examples.Example`."""
    extra: dict[str, mx.array] = field(default_factory=dict)
    """(targets, …) each: the examples' arrays."""

    def by_part(self, values: mx.array, parts: int) -> mx.array:
        """Sums of ``values`` (targets,) over each sequence, (examples, parts)."""
        kept = mx.where(self.counted > 0, values, 0.0)
        return mx.zeros(self.ends.size, dtype=values.dtype).at[self.row].add(kept).reshape(-1, parts)

    def arrays(self) -> dict[str, mx.array]:
        """All arrays by name, as a compiled step takes them."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), mx.array)}
        if isinstance(self.cuts, BySlot):
            own |= {"slots": self.cuts.slots, "back": self.cuts.back}
        own |= {f"{_NUMBER}{name}": array for name, array in self.numbers.items()}
        return own | {f"{_EXTRA}{name}": array for name, array in self.extra.items()}

    @classmethod
    def of(cls, arrays: dict[str, mx.array]) -> Batch:
        """The batch inside a compiled step; what is no array is not known there."""
        rest: dict[str, Any] = {name: array for name, array in arrays.items() if "." not in name}
        cuts = BySlot(rest.pop("slots"), rest.pop("back")) if "slots" in rest else None
        rest["numbers"], rest["extra"] = _under(_NUMBER, arrays), _under(_EXTRA, arrays)
        return cls(**rest, tokens=0, total=0, examples=0, cuts=cuts)


class Layout(Protocol):
    """Rows in, arrays out."""

    name: str
    sorts: bool
    """Whether rows of similar length should share a batch."""

    def lay(self, examples: Sequence[Example]) -> Batch:
        """At least one example; each of its sequences has at least one token."""
        ...


class Flat:
    """See the module."""

    name = "flat"
    sorts = False

    def lay(self, examples: Sequence[Example]) -> Batch:
        rows = _sequences(examples)
        starts = _starts(rows)
        ids = np.concatenate([np.array(row.ids, dtype=np.int32) for row in rows])
        cuts = ByRow(tuple(len(row.ids) for row in rows))
        return _batch(ids[None], starts, examples, cuts)


class Slots:
    """See the module. ``rows``: sequences of a micro-batch; ``budget``: tokens of one that is filled by tokens."""

    name = "slots"
    sorts = True

    def __init__(self, rows: int, budget: int | None) -> None:
        self.rows, self.budget = rows, budget

    def lay(self, examples: Sequence[Example]) -> Batch:
        rows = _sequences(examples)
        starts, total = _starts(rows), sum(len(row.ids) for row in rows)
        # One token and one place more than are needed: the filling (see segments.BySlot).
        length = self.budget if self.budget is not None and total < self.budget else round_up(total + 1)
        width = round_up(max(len(row.ids) for row in rows))
        count = self.count(len(rows), width, total)
        ids = np.zeros((1, length), dtype=np.int32)
        slots = np.full((count, width), length - 1, dtype=np.int32)
        back = np.full(length, count * width - 1, dtype=np.int32)
        for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
            n = len(row.ids)
            ids[0, start : start + n] = row.ids
            slots[i, :n] = np.arange(start, start + n)
            back[start : start + n] = np.arange(i * width, i * width + n)
        cuts = BySlot(mx.array(slots), mx.array(back))
        return _batch(ids, starts, examples, cuts, places=count)

    def count(self, rows: int, width: int, total: int) -> int:
        """Slots of this width: always the same number for a budget, so that shapes stay few."""
        # Rows of a batch are about as long, hence longer than the width before this one.
        usual = self.rows if self.budget is None else max(1, 3 * self.budget // (2 * width))
        count = -(-rows // usual) * usual
        return count if count * width > total else count + 1


class Padded:
    """See the module. ``rows``: fill up to so many rows and to a fixed width, None: as small as can be."""

    name = "padded"
    sorts = True

    def __init__(self, rows: int | None = None) -> None:
        self.rows = rows

    def lay(self, examples: Sequence[Example]) -> Batch:
        rows = _sequences(examples)
        longest = max(len(row.ids) for row in rows)
        width = longest if self.rows is None else round_up(longest)
        ids = np.zeros((max(len(rows), self.rows or 0), width), dtype=np.int32)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = row.ids
        starts = [i * width for i in range(len(rows))]
        return _batch(ids, starts, examples, None, places=len(ids) if self.rows is not None else 0)


def round_up(length: int) -> int:
    """The smallest fixed size that holds ``length`` tokens."""
    for size in _SIZES:
        if length <= size:
            return size
    return -(-length // _SIZES[-1]) * _SIZES[-1]


def choose(model: nn.Module, rows: int, budget: int | None, *, is_cpu: bool) -> tuple[Layout, str]:
    """The best layout that fits ``model``, and why it is not the first choice ("" if it is)."""
    if is_cpu:
        cpu_math.install(model)
    wanted: Layout = Flat() if is_cpu else Slots(rows, budget)
    why = _misfit(model, wanted)
    if not why:
        return wanted, ""
    return Padded(None if is_cpu else rows), why


def _misfit(model: nn.Module, layout: Layout) -> str:
    """Why ``model`` cannot run on one token axis; "" when the outputs are those of row by row."""
    if not segments.install(model):
        return "its attention is its own"
    rows, start = [], 1
    for length in _PROBE:
        rows.append(Encoded(list(range(start, start + length)), [False] + [True] * (length - 1), 0))
        start += length
    batch, was_training = layout.lay([Example.single(row) for row in rows]), model.training
    model.eval()
    try:
        with segments.cut(batch.cuts):
            whole = model(batch.ids)
        whole = whole.reshape(-1, whole.shape[-1])[batch.at[: batch.tokens]]
        alone = mx.concatenate([model(mx.array([row.ids]))[0, :-1] for row in rows])
        # Half-precision results of two orders of summation differ in their last digits; foreign rows differ at all.
        far = mx.max(mx.abs(whole - alone)) / mx.max(mx.abs(alone))
        # A GPU multiplies float32 in TF32, with as few digits as float16 has.
        exact = whole.dtype == mx.float32 and mx.default_device().type == mx.DeviceType.cpu
        limit = 1e-3 if exact else 5e-2
        return "" if abs(far.item()) < limit else "its layers look along the whole axis"
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        return f"it refuses ({type(error).__name__})"
    finally:
        model.train(was_training)


@dataclass(frozen=True, slots=True)
class _Targets:
    at: np.ndarray
    ids: np.ndarray
    row: np.ndarray


def _starts(rows: Sequence[Encoded]) -> list[int]:
    return [0, *accumulate(len(row.ids) for row in rows)][:-1]


def _targets(rows: Sequence[Encoded], starts: Sequence[int]) -> _Targets:
    """Every trained token but a row's first, with the place before it."""
    at, ids, number = [], [], []
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        places = np.flatnonzero(np.array(row.trained[1:], dtype=bool))
        at.append(places + start)
        ids.append(np.array(row.ids, dtype=np.int32)[1:][places])
        number.append(np.full(len(places), i))
    return _Targets(*(np.concatenate(parts).astype(np.int32) for parts in (at, ids, number)))


def _batch(
    ids: np.ndarray, starts: Sequence[int], examples: Sequence[Example], cuts: Cuts | None, *, places: int = 0
) -> Batch:
    """``places``: sequences that a fixed shape has room for; 0: the shape is that of the examples."""
    rows, parts = _sequences(examples), len(examples[0].parts)
    targets = _targets(rows, starts)
    n = len(targets.at)
    size = _target_count(n, ids.size) if places else max(1, n)
    count = max(-(-places // parts), len(examples))
    ends = np.array([start + len(row.ids) - 1 for start, row in zip(starts, rows, strict=True)], dtype=np.int32)
    counted = np.ones(n, dtype=np.float32)
    at, ids_of_targets, trained, row = (_filled(x, size) for x in (targets.at, targets.ids, counted, targets.row))
    real = _filled(np.ones(len(examples), dtype=np.float32), count)
    total = sum(len(row.ids) for row in rows)
    return Batch(
        mx.array(ids),
        at,
        ids_of_targets,
        trained,
        row,
        real=real,
        ends=_filled(ends, count * parts),
        tokens=n,
        total=total,
        examples=len(examples),
        cuts=cuts,
        starts=tuple(starts),
        numbers={
            name: _filled(np.array([e.numbers[name] for e in examples], dtype=np.float32), count)
            for name in examples[0].numbers
        },
        extra={name: _filled(np.concatenate([e.arrays[name] for e in examples]), size) for name in examples[0].arrays},
    )


def _sequences(examples: Sequence[Example]) -> list[Encoded]:
    return [part for example in examples for part in example.parts]


def _filled(values: np.ndarray, size: int) -> mx.array:
    """``values`` (n, …) with zeros behind, (size, …)."""
    return mx.array(np.pad(values, [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1)))


def _under(prefix: str, arrays: dict[str, mx.array]) -> dict[str, mx.array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _target_count(n: int, places: int) -> int:
    """Room for ``n`` targets: an eighth, a quarter, half, three quarters or all of the places."""
    return next((size for size in (places // 8, places // 4, places // 2, 3 * places // 4) if n <= size), places)
