"""A model taken apart: the same logits, loss and gradients, or the whole model where that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn

from tests.fakes import families
from training.engine.catalog.adapters import ADAPTERS
from training.engine.machine.device import Device
from training.engine.models import heads, loading
from training.engine.tuning import adapters

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
GPU = Device("cuda", "test", 1 << 30, "", 1, False)
IDS = mx.array([[5, 9, 2, 7]])


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_qwen3", "tiny_quantised"])
def test_parts_make_the_same_logits(family: str, request: pytest.FixtureRequest) -> None:
    model = loading.load(request.getfixturevalue(family), "auto", CPU).model
    model.freeze()
    head = heads.find(model)
    assert mx.allclose(head.project(head.body(IDS)), model(IDS), atol=1e-5)
    assert head.matrix is not None


@pytest.mark.parametrize("folder", ["tiny_llama", "tiny_quantised"])
def test_a_matrix_goes_there_and_back(folder: str, request: pytest.FixtureRequest) -> None:
    model = loading.load(request.getfixturevalue(folder), "auto", GPU).model
    model.freeze()
    matrix = heads.find(model).matrix
    assert matrix is not None
    hidden, weight = mx.random.normal((3, 64)), matrix.rows(mx.arange(matrix.vocabulary))
    gradient = mx.random.normal((3, matrix.vocabulary))
    assert mx.allclose(matrix.logits(hidden), hidden @ weight.T, atol=1e-4)
    assert mx.allclose(matrix.back(gradient, mx.float32), gradient @ weight, atol=1e-4)
    assert mx.allclose(matrix.mean_row(), mx.mean(weight, axis=0), atol=1e-6)


def test_a_trained_head_is_no_frozen_matrix() -> None:
    model = families.make("mistral")
    head = heads.find(model)
    assert head.matrix is None
    assert mx.allclose(head.project(head.body(IDS)), model(IDS), atol=1e-5)
    adapters.apply(model, ADAPTERS["lora"].settings(name="lora"))
    assert heads.find(model).matrix is not None


class Scaled(nn.Module):
    """A model that does something to its logits, as Gemma 2 and Cohere do."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.model, self.lm_head = inner.model, nn.Linear(64, 300, bias=False)

    def __call__(self, ids: mx.array) -> mx.array:
        return mx.tanh(self.lm_head(self.model(ids)) / 3) * 3


def test_a_model_that_caps_its_logits_is_left_whole(tiny_llama: Path) -> None:
    model = Scaled(loading.load(tiny_llama, "auto", CPU).model)
    head = heads.find(model)
    assert head.matrix is None
    assert mx.array_equal(head.project(head.body(IDS)), model(IDS))


def test_looking_leaves_the_mode_as_it_was(tiny_llama: Path) -> None:
    model = loading.load(tiny_llama, "auto", CPU).model
    model.train()
    heads.find(model)
    assert model.training
