"""Gradient checkpointing computes the very same gradients, also with dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from training.engine.catalog.adapters import Lora
from training.engine.machine import random_stream
from training.engine.machine.device import Device
from training.engine.models import loading
from training.engine.models.recompute import recompute_blocks
from training.engine.tuning import adapters

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
IDS = mx.array([[5, 260, 17, 99, 3, 250, 40]])


def gradients(folder: Path, dropout: float, again: bool) -> tuple[dict[str, mx.array], list[Any]]:
    model = loading.load(folder, "auto", CPU).model
    mx.random.seed(5)
    adapters.apply(model, Lora(rank=2, dropout=dropout))
    model.load_weights([(k, mx.full(v.shape, 0.1)) for k, v in adapters.trained_weights(model).items()], strict=False)
    if again:
        recompute_blocks(model)
    model.train()
    mx.random.seed(6)
    _, found = nn.value_and_grad(model, lambda ids: model(ids).square().sum())(IDS)
    mx.eval(found)
    return dict(tree_flatten(found)), random_stream.key().tolist()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_gradients_are_the_same(dropout: float, tiny_llama: Path) -> None:
    plain, key = gradients(tiny_llama, dropout, False)
    again, key_again = gradients(tiny_llama, dropout, True)
    assert plain.keys() == again.keys()
    assert all(mx.allclose(plain[k], again[k], rtol=1e-5, atol=1e-4) for k in plain)
    assert key == key_again


def test_other_models_of_the_process_are_left_alone(tiny_llama: Path) -> None:
    model, other = (loading.load(tiny_llama, "auto", CPU).model for _ in range(2))
    recompute_blocks(model)
    assert type(model.layers[0]).__name__ == "RecomputedTransformerBlock"
    assert type(other.layers[0]).__name__ == "TransformerBlock"
    assert mx.array_equal(model(IDS), other(IDS))


def test_the_stream_is_put_back_exactly() -> None:
    mx.random.seed(123456789)
    mx.random.normal((3,))
    key = random_stream.key()
    expected = mx.random.uniform(shape=(5,))
    random_stream.put(key)
    assert mx.array_equal(mx.random.uniform(shape=(5,)), expected)
