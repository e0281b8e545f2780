"""Logits at the targets only: the same loss and gradients, or the whole model where that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from training.engine import heads, models
from training.engine.batches import Batch, stack
from training.engine.catalog.methods import Sft as Settings
from training.engine.device import Device
from training.engine.masks import Encoded
from training.engine.methods.sft import Sft

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
ROWS = [Encoded([i + 3 * j for j in range(n)], [j % 3 == 1 for j in range(n)], 0) for i, n in enumerate((5, 31, 12))]


def of(method: Sft, model: nn.Module, batch: Batch) -> tuple[float, dict[str, mx.array]]:
    value, gradients = nn.value_and_grad(model, lambda b: method.loss(model, b))(batch)
    return float(value.item()), dict(tree_flatten(gradients))


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_qwen3", "tiny_quantised"])
def test_loss_and_gradients_are_those_of_all_logits(family: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(family)
    model = models.load(folder, "auto", CPU).model
    whole, apart = Sft(Settings()), Sft(Settings())
    apart.prepare(model)
    assert heads.find(model) is not None
    (one, first), (other, second) = of(whole, model, stack(ROWS)), of(apart, model, stack(ROWS))
    assert one == pytest.approx(other, rel=1e-6)
    scale = max(mx.abs(g).max().item() for g in first.values())
    assert all(mx.abs(first[k] - second[k]).max().item() <= 2e-6 * scale for k in first)


class Scaled(nn.Module):
    """A model that does something to its logits, as Gemma 2 and Cohere do."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.model, self.lm_head = inner.model, nn.Linear(64, 300, bias=False)

    def __call__(self, ids: mx.array) -> mx.array:
        return mx.tanh(self.lm_head(self.model(ids)) / 3) * 3


def test_a_model_that_caps_its_logits_is_left_whole(tiny_llama: Path) -> None:
    assert heads.find(Scaled(models.load(tiny_llama, "auto", CPU).model)) is None


def test_a_model_built_otherwise_is_left_whole() -> None:
    assert heads.find(nn.Linear(2, 2)) is None


def test_looking_leaves_the_mode_as_it_was(tiny_llama: Path) -> None:
    model = models.load(tiny_llama, "auto", CPU).model
    model.train()
    heads.find(model)
    assert model.training
