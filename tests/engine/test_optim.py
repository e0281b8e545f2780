"""Optimizers against their papers' formulas, written out in float64; schedules as tables; clipping as torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.engine.optimizers import alone
from training.engine import optim
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.schedules import SCHEDULES, Constant, Cosine, Linear, Step, Warmed

Array = np.ndarray[Any, np.dtype[np.float64]]
Reference = Callable[[Array, list[Array], float], Array]
RATE, STEPS = 1e-2, 10


def adamw(b1: float, b2: float, eps: float, decay: float, correct: bool) -> Reference:
    """Loshchilov and Hutter 2019, algorithm 2."""

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        m, v = np.zeros_like(w), np.zeros_like(w)
        for t, g in enumerate(gradients, 1):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            m_hat, v_hat = (m / (1 - b1**t), v / (1 - b2**t)) if correct else (m, v)
            w = w - rate * decay * w - rate * m_hat / (np.sqrt(v_hat) + eps)
        return w

    return run


def sgd(momentum: float, nesterov: bool, decay: float) -> Reference:
    """torch.optim.SGD."""

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        v = np.zeros_like(w)
        for g in gradients:
            g = g + decay * w
            v = momentum * v + g
            w = w - rate * (g + momentum * v if nesterov else v)
        return w

    return run


def lion(b1: float, b2: float, decay: float) -> Reference:
    """Chen et al. 2023, algorithm 2."""

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        m = np.zeros_like(w)
        for g in gradients:
            w = w - rate * (np.sign(b1 * m + (1 - b1) * g) + decay * w)
            m = b2 * m + (1 - b2) * g
        return w

    return run


CASES: list[tuple[dict[str, Any], Reference]] = [
    ({"name": "adamw"}, adamw(0.9, 0.999, 1e-8, 0.01, True)),
    ({"name": "adamw", "bias_correction": False, "weight_decay": 0.1}, adamw(0.9, 0.999, 1e-8, 0.1, False)),
    ({"name": "adamw", "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0}, adamw(0.8, 0.95, 1e-4, 0, True)),
    ({"name": "adamw_8bit", "weight_decay": 0.1}, adamw(0.9, 0.999, 1e-8, 0.1, True)),  # small arrays are not packed
    ({"name": "adamw_8bit", "bias_correction": False}, adamw(0.9, 0.999, 1e-8, 0.01, False)),
    ({"name": "sgd", "momentum": 0}, sgd(0, False, 0)),
    ({"name": "sgd"}, sgd(0.9, False, 0)),
    ({"name": "sgd", "nesterov": True, "weight_decay": 0.1}, sgd(0.9, True, 0.1)),
    ({"name": "lion"}, lion(0.9, 0.99, 0)),
    ({"name": "lion", "betas": (0.95, 0.98), "weight_decay": 0.1}, lion(0.95, 0.98, 0.1)),
]


@pytest.fixture
def problem() -> tuple[Array, list[Array]]:
    random = np.random.default_rng(3)
    return random.normal(0, 0.5, (6, 5)), [random.normal(0, 0.5, (6, 5)) for _ in range(STEPS)]


@pytest.mark.parametrize(("settings", "reference"), CASES)
def test_ten_updates_are_the_papers(
    settings: dict[str, Any], reference: Reference, problem: tuple[Array, list[Array]]
) -> None:
    start, gradients = problem
    optimizer = alone(OPTIMIZERS[settings["name"]].settings(**settings), RATE)
    weights = {"w": mx.array(start.astype(np.float32))}
    for gradient in gradients:
        optimizer.learning_rate = RATE
        weights = optimizer.apply_gradients({"w": mx.array(gradient.astype(np.float32))}, weights)
    assert np.abs(np.array(weights["w"]) - reference(start, gradients, RATE)).max() <= 1e-6


def test_every_optimizer_has_a_reference() -> None:
    assert {settings["name"] for settings, _ in CASES} == set(OPTIMIZERS.names)


def table(settings: Warmed, total: int) -> list[float]:
    factor = optim.schedule(settings, total)
    return [round(factor(n), 4) for n in range(total)]


@pytest.mark.parametrize(
    ("settings", "total", "expected"),
    [
        (Constant(warmup_steps=3), 6, [0.25, 0.5, 0.75, 1, 1, 1]),
        (Linear(warmup_steps=1), 5, [0.5, 1, 0.75, 0.5, 0.25]),
        (Linear(warmup_steps=0, end_ratio=0.5), 4, [1, 0.875, 0.75, 0.625]),
        (Cosine(warmup_steps=1, end_ratio=0), 5, [0.5, 1, 0.8536, 0.5, 0.1464]),
        (Cosine(warmup_steps=0, end_ratio=0.1), 2, [1, 0.55]),
        (Step(warmup_steps=1, every=2, factor=0.1), 6, [0.5, 1, 1, 0.1, 0.1, 0.01]),
        (Constant(warmup_ratio=0.5), 4, [0.3333, 0.6667, 1, 1]),
        (Cosine(warmup_steps=100), 3, [0.25, 0.5, 0.75]),
        (Cosine(), 1, [1]),
    ],
)
def test_schedules_as_tables(settings: Warmed, total: int, expected: list[float]) -> None:
    assert table(settings, total) == expected


@pytest.mark.parametrize("name", SCHEDULES.names)
def test_every_schedule_moves_at_once_and_is_full_once(name: str) -> None:
    made = table(SCHEDULES[name].settings(name=name, warmup_steps=4), 40)
    assert made[0] == 0.2
    assert made[:5] == sorted(made[:5])
    assert made[4] == 1.0 == max(made)
    assert min(made) > 0


def test_an_end_rate_is_reached_after_the_last_update() -> None:
    for kind in (Linear, Cosine):
        assert optim.schedule(kind(end_ratio=0.25, warmup_steps=0), 8)(8) == pytest.approx(0.25)


def gradients() -> Iterator[tuple[float, dict[str, Any]]]:
    yield 5.0, {"a": mx.array([3.0]), "b": {"c": mx.array([[0.0, 4.0]])}}


def test_the_norm_is_that_of_all_gradients_together() -> None:
    for length, tree in gradients():
        assert optim.norm(tree).item() == length
    assert optim.norm({"a": mx.full((100,), 300.0, dtype=mx.float16)}).item() == pytest.approx(
        3000
    )  # 9e6 in float16: inf


@pytest.mark.parametrize(("longest", "factor"), [(1.0, 1 / (5 + 1e-6)), (10.0, 1.0), (0.0, 1.0)])
def test_clipping_is_torchs(longest: float, factor: float) -> None:
    for _, tree in gradients():
        clipped: Any = optim.clip(tree, optim.norm(tree), longest)
        assert clipped["b"]["c"][0, 1].item() == pytest.approx(4 * factor, rel=1e-6)


def test_clipping_keeps_the_number_format() -> None:
    tree = {"a": mx.full((4,), 3.0, dtype=mx.bfloat16)}
    clipped: Any = optim.clip(tree, optim.norm(tree), 1.0)
    assert clipped["a"].dtype == mx.bfloat16


def test_the_norm_does_not_depend_on_the_order_of_the_tree() -> None:
    random = np.random.default_rng(1)
    tree = {str(i): mx.array(random.normal(0, 10.0 ** (i % 5), 7).astype(np.float32)) for i in range(40)}
    assert optim.norm(tree).item() == optim.norm(dict(reversed(tree.items()))).item()
