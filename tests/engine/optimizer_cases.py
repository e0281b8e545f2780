"""Optimizers as a training has them, for tests without a training; references written out in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn

from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.rows import Settings
from training.engine.config.training import TrainSettings, check
from training.engine.optimizers import factory
from training.engine.optimizers.groups import Grouped

Array = np.ndarray[Any, np.dtype[np.float64]]
Reference = Callable[[Array, list[Array], float], Array]
"""Weights, gradients and rate to weights."""


def alone(settings: Settings, rate: float, model: nn.Module | None = None, **others: Any) -> Grouped:
    """The optimizer of a training with ``settings``; without a model for any tree of weights."""
    raw = {"optimizer": settings.model_dump(), "learning_rate": rate, **others}
    return factory.build(check(TrainSettings, raw), model or nn.Module())


def course(settings: dict[str, Any], start: Any, gradients: list[Any], rate: float) -> list[Any]:
    """The weights after each update of a single array."""
    optimizer = alone(OPTIMIZERS[settings["name"]].settings(**settings), rate)
    weights, made = {"w": mx.array(np.asarray(start, dtype=np.float32))}, []
    for gradient in gradients:
        optimizer.learning_rate = rate
        weights = optimizer.apply_gradients({"w": mx.array(np.asarray(gradient, dtype=np.float32))}, weights)
        mx.eval(weights, optimizer.state)
        made.append(np.array(weights["w"]))
    return made


def error(settings: dict[str, Any], reference: Reference, shape: tuple[int, ...] = (6, 5)) -> float:
    """Largest difference to ``reference`` after ten updates at a rate of 0.01."""
    random = np.random.default_rng(3)
    start, gradients = random.normal(0, 0.5, shape), [random.normal(0, 0.5, shape) for _ in range(10)]
    return float(np.abs(course(settings, start, gradients, 1e-2)[-1] - reference(start, gradients, 1e-2)).max())
