"""One optimizer for all weights: each has its own rule, rate and decay, and a float32 copy if it is in 16 bits.

Rules are MLX optimizers for single arrays. Here they always meet float32 gradients and float32 weights, so
that an update smaller than a 16-bit weight's last digit is not lost: it adds up in the *master*, the
weight's float32 copy, of which the model holds the rounded one (Micikevicius et al. 2018, arXiv 1710.03740).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.optimizers as mo
from mlx.utils import tree_flatten, tree_map, tree_map_with_path

MASTER = "master"
"""Name of the float32 copy in a weight's memory."""


@dataclass(frozen=True, slots=True)
class Share:
    """How one weight is updated."""

    rule: mo.Optimizer
    """For one array; it reads step and rate from its own state, so one rule has one ratio."""
    ratio: float = 1.0
    """Times the training's rate."""
    transposed: bool = False
    """The weight lies as (inputs, outputs); rules that ask take rows for outputs."""


class Grouped(mo.Optimizer):
    """See the module. Its state: ``step``, ``learning_rate`` and a table for each weight under its full name.

    ``share_of(name, weight)`` says how a weight is updated, always the same for the same weight.
    ``masters``: whether 16-bit weights have a float32 copy.
    """

    def __init__(
        self, share_of: Callable[[str, mx.array], Share], learning_rate: float, *, masters: bool = True
    ) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._share_of, self._masters = share_of, masters
        self._shares: dict[str, Share] = {}

    @property
    def state(self) -> dict[str, Any]:
        """Arrays only, in tables: what a checkpoint keeps."""
        return self._state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        """Also one that was read from a file, where names have become nested tables."""
        self._initialized = False
        self._state: dict[str, Any] = {}
        for path, array in tree_flatten(state):
            name, _, key = path.rpartition(".")
            (self._state.setdefault(name, {}) if name else self._state)[key] = array

    def init(self, parameters: Any) -> None:
        """Make what is missing of the memory of ``parameters``."""
        for name, weight in tree_flatten(parameters):
            share = self._shares[name] = self._share_of(name, weight)
            memory = self._state.setdefault(name, {})
            exact = _turned(weight.astype(mx.float32), share)
            if not memory.keys() - {MASTER}:
                share.rule.init_single(exact, memory)
            if self._masters and weight.dtype.size < exact.dtype.size and MASTER not in memory:
                memory[MASTER] = weight.astype(mx.float32)
        self._initialized = True

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        """The weights after an update, in their own number formats, as a tree like ``gradients``."""
        if not self._initialized:
            self.init(tree_map(lambda _, weight: weight, gradients, parameters))
        self._state["step"] = self.step + 1
        for rule, ratio in {id(s.rule): (s.rule, s.ratio) for s in self._shares.values()}.values():
            rule.state = {"step": self.step, "learning_rate": self.learning_rate * ratio}
        return tree_map_with_path(self._changed, gradients, parameters)

    def _changed(self, name: str, gradient: mx.array, weight: mx.array) -> mx.array:
        share, memory = self._shares[name], self._state[name]
        exact = memory.get(MASTER, weight).astype(mx.float32)
        made = share.rule.apply_single(_turned(gradient.astype(mx.float32), share), _turned(exact, share), memory)
        made = _turned(made, share)
        if MASTER in memory:
            memory[MASTER] = made
        return made.astype(weight.dtype)


def _turned(matrix: mx.array, share: Share) -> mx.array:
    return matrix.T if share.transposed else matrix
