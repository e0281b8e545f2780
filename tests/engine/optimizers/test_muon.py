"""Muon against its formula in float64; which weights it takes, and that LoRA's are read the right way round."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from tests.engine import optimizer_cases
from tests.engine.optimizer_cases import Array, Reference
from training.engine.catalog.optimizers import Muon
from training.engine.optimizers.muon import orthogonal


def muon(size: float, decay: float, nesterov: bool = True, momentum: float = 0.95, rounds: int = 5) -> Reference:
    """torch.optim.Muon without its bfloat16; ``size``: what a step is multiplied with."""

    def spread(x: Array) -> Array:
        x = x / np.linalg.norm(x)
        for _ in range(rounds):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        return x

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        m = np.zeros_like(w)
        for g in gradients:
            m = momentum * m + (1 - momentum) * g
            update = (1 - momentum) * g + momentum * m if nesterov else m
            w = w * (1 - rate * decay) - rate * size * spread(update)
        return w

    return run


CASES: list[tuple[dict[str, Any], Reference]] = [
    ({"name": "muon"}, muon(0.2 * 6**0.5, 0.1)),
    ({"name": "muon", "adjust_lr_fn": "original", "weight_decay": 0}, muon((6 / 5) ** 0.5, 0)),
    ({"name": "muon", "nesterov": False, "momentum": 0.5, "ns_steps": 2}, muon(0.2 * 6**0.5, 0.1, False, 0.5, 2)),
]


@pytest.mark.parametrize(("settings", "reference"), CASES)
def test_ten_updates_are_torchs(settings: dict[str, Any], reference: Reference) -> None:
    assert optimizer_cases.error(settings, reference) <= 1e-6


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_an_orthogonal_matrix_has_singular_values_near_1(shape: tuple[int, int]) -> None:
    made = orthogonal(mx.random.normal(shape, key=mx.random.key(0)), 5)
    values = np.linalg.svd(np.array(made), compute_uv=False)
    assert 0.5 < values.min() <= values.max() < 1.5


def test_a_gradient_of_zero_leaves_a_weight_alone() -> None:
    assert not np.isnan(np.array(orthogonal(mx.zeros((3, 4)), 5))).any()


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 8), nn.RMSNorm(8)
        self.experts = mx.ones((2, 3, 3))


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens, self.layers, self.lm_head = nn.Embedding(9, 4), [_Block()], nn.Linear(4, 9)


def test_it_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = _Model()
    optimizer = optimizer_cases.alone(Muon(), 1e-2, model)
    optimizer.init(model.trainable_parameters())
    own = {name for name, memory in optimizer.state.items() if isinstance(memory, dict) and set(memory) == {"v"}}
    assert own == {"layers.0.linear.weight"}
    assert set(optimizer.state["lm_head.weight"]) == {"m", "v"}


def test_lora_matrices_are_read_as_outputs_by_inputs() -> None:
    """A (in 8, rank 2) has more outputs than inputs only as it lies; B (rank 2, out 8) really has."""
    optimizer = optimizer_cases.alone(Muon(adjust_lr_fn="original", weight_decay=0), 1e-2)
    tree = {"lora_a": mx.zeros((8, 2)), "lora_b": mx.zeros((2, 8))}
    a = mx.random.normal((8, 2), key=mx.random.key(1))
    made = optimizer.apply_gradients({"lora_a": a, "lora_b": a.T}, tree)
    assert mx.allclose(made["lora_b"], 2 * made["lora_a"].T, atol=1e-6)
