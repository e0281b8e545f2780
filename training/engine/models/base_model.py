"""The base model inside an adapted one: preference and reinforcement methods compare with it.

Adapters wrap the base's own layers, so the base is there already: for a while its layers stand in their old
places again. Nothing is copied, and a second model never lies in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten

from training.engine.errors import ConfigError, Problem
from training.engine.folders import places

_WRAPPED = ("linear", "embedding")  # where mlx-lm's adapters keep the layer they were put around


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Inside, ``model`` computes as its base, bit for bit; afterwards as before, also after an exception.

    Fits into a loss function and into a compiled step. Inside there is nothing to train, but for a head beside the
    model's own (scalar_heads.py), which changes nothing of what the base says.
    Raises ConfigError ``adapter.no_base`` when weights of the base itself are trained: it is gone, then.
    """
    adapted = [(name, module) for name, module in model.named_modules() if "lora_a" in module]
    names = tuple(f"{name}." for name in (*(name for name, _ in adapted), *places.HEADS))
    if not adapted or any(not name.startswith(names) for name, _ in tree_flatten(model.trainable_parameters())):
        raise ConfigError.of(
            [
                Problem(
                    ("adapter", "name"),
                    "adapter.no_base",
                    "Full fine-tuning changes the base itself, and this compares with the base.",
                    "Choose LoRA or DoRA.",
                )
            ]
        )
    model.update_modules(tree_unflatten([(name, _base(module)) for name, module in adapted]))
    try:
        yield
    finally:
        model.update_modules(tree_unflatten(adapted))


def _base(adapter: nn.Module) -> nn.Module:
    """The layer that ``adapter`` was put around."""
    found: nn.Module = next(adapter[name] for name in _WRAPPED if name in adapter)
    return found
