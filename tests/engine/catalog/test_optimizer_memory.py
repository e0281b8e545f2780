"""What is said of an optimizer's memory is what the engine keeps."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from training.engine.catalog.optimizer_memory import state_bytes
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.config.training import TrainSettings, check
from training.engine.optimizers import factory

SIDE = 256
FURTHER: list[dict[str, Any]] = [
    {"name": "sgd", "momentum": 0},
    {"name": "rmsprop", "momentum": 0.9, "centered": True},
    {"name": "adafactor", "beta1": 0.9},
]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SIDE, SIDE, bias=False)


class Model(nn.Module):
    """One large matrix in a block."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [Block()]


@pytest.mark.parametrize("settings", [*({"name": name} for name in OPTIMIZERS.names), *FURTHER], ids=str)
def test_the_bytes_for_a_weight_are_the_engines(settings: dict[str, Any]) -> None:
    config, model = check(TrainSettings, {"optimizer": settings}), Model()
    optimizer = factory.build(config, model)
    optimizer.update(model, {"layers": [{"linear": {"weight": mx.ones((SIDE, SIDE))}}]})
    kept = sum(array.nbytes for _, array in tree_flatten(optimizer.state) if array.size > 1)
    assert kept / SIDE**2 == pytest.approx(state_bytes(config.optimizer), abs=0.05)
