"""The model as the training found it, for methods that ask again and again how far the policy has moved.

With adapters alone it is the same model without them (base_model.py): nothing is held twice. Where weights of the
model itself are trained, those are kept a second time, as the arrays they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten

from training.engine.folders import places
from training.engine.models.base_model import without_adapters


class Reference:
    """Made before the first step, while adapters do nothing yet."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._kept: Any = None
        if not _only_adapters(model):
            own = [(k, v) for k, v in tree_flatten(model.trainable_parameters()) if not _is_head(k)]
            self._kept = tree_unflatten(own)
            self.bytes = sum(value.nbytes for _, value in own)
        else:
            self.bytes = 0

    bytes: int
    """Held beside the model once the training has changed it."""

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Inside, the model computes as it did before the training; afterwards as now."""
        if self._kept is None:
            with without_adapters(self._model):
                yield
            return
        now = self._model.trainable_parameters()
        self._model.update(self._kept)
        try:
            yield
        finally:
            self._model.update(now)


def _only_adapters(model: nn.Module) -> bool:
    names = tuple(f"{name}." for name, module in model.named_modules() if "lora_a" in module)
    return bool(names) and all(
        name.startswith(names) or _is_head(name) for name, _ in tree_flatten(model.trainable_parameters())
    )


def _is_head(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in places.HEADS
