"""Optimizers as a training has them, for tests without a training."""

from __future__ import annotations

from typing import Any

from mlx import nn

from training.engine import optim
from training.engine.catalog.rows import Settings
from training.engine.config import TrainSettings, check
from training.engine.optim_groups import Grouped


def alone(settings: Settings, rate: float, model: nn.Module | None = None, **others: Any) -> Grouped:
    """The optimizer of a training with ``settings``; without a model for any tree of weights."""
    raw = {"optimizer": settings.model_dump(), "learning_rate": rate, **others}
    return optim.build(check(TrainSettings, raw), model or nn.Module())
