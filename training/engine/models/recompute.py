"""Gradient checkpointing: a block's inner activations are computed again in the backward pass."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine.machine import random_stream


def recompute_blocks(model: nn.Module) -> None:
    """Make every block of ``model`` keep only its input in training (Chen et al. 2016, arXiv 1604.06174).

    Each block gets a subclass of its own class; changing the class itself, as mlx-lm does, would
    reach every other model of the process.
    """
    for block in model.layers:
        kind = type(block)
        block.__class__ = type(f"Recomputed{kind.__name__}", (kind,), {"__call__": _recomputing(kind, _draws(block))})


def _draws(block: nn.Module) -> bool:
    """Whether the block drops anything out, and so draws from the random stream."""
    return any(isinstance(m, nn.Dropout) and m._p_1 < 1 for m in block.modules())


def _recomputing(kind: type[nn.Module], draws: bool) -> Any:
    forward = kind.__call__

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not self.training:
            return forward(self, *args, **kwargs)  # nothing to save, and a cache of keys is no array
        first: list[mx.array] = []

        def inner(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            self.update(parameters)
            if not draws:
                return forward(self, *args, **kwargs)
            if not first:
                first.append(random_stream.key())
                return forward(self, *args, **kwargs)
            # The second time, in the backward pass: the same must be dropped out as the first time.
            outside = random_stream.key()
            random_stream.put(first[0])
            try:
                return forward(self, *args, **kwargs)
            finally:
                random_stream.put(outside)

        return mx.checkpoint(inner)(self.trainable_parameters(), *args, **kwargs)

    return call
