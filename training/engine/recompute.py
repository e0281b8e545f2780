"""Gradient checkpointing: a block's inner activations are computed again in the backward pass."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn


def recompute_blocks(model: nn.Module) -> None:
    """Make every block of ``model`` keep only its input (Chen et al. 2016, arXiv 1604.06174).

    Each block gets a subclass of its own class; changing the class itself, as mlx-lm does, would
    reach every other model of the process.
    """
    for block in model.layers:
        kind = type(block)
        block.__class__ = type(f"Recomputed{kind.__name__}", (kind,), {"__call__": _recomputing(kind)})


def _recomputing(kind: type[nn.Module]) -> Any:
    forward = kind.__call__

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        def inner(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            self.update(parameters)
            return forward(self, *args, **kwargs)

        return mx.checkpoint(inner)(self.trainable_parameters(), *args, **kwargs)

    return call
