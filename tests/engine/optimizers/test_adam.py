"""Adam and its kin against their papers' formulas as torch reads them, written out in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.engine import optimizer_cases
from tests.engine.optimizer_cases import Array, Reference
from training.engine.optimizers.adam import first_rectified


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


def adam(decay: float, amsgrad: bool, eps: float = 1e-8, b1: float = 0.9, b2: float = 0.999) -> Reference:
    """Kingma and Ba 2015, algorithm 1, with an L2 penalty."""

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        m, v, largest = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
        for t, g in enumerate(gradients, 1):
            g = g + decay * w
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            largest = np.maximum(largest, v)
            v_hat = (largest if amsgrad else v) / (1 - b2**t)
            w = w - rate * m / (1 - b1**t) / (np.sqrt(v_hat) + eps)
        return w

    return run


def adamax(decay: float, b1: float = 0.9, b2: float = 0.999) -> Reference:
    """Kingma and Ba 2015, algorithm 2."""

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        m, u = np.zeros_like(w), np.zeros_like(w)
        for t, g in enumerate(gradients, 1):
            g = g + decay * w
            m, u = b1 * m + (1 - b1) * g, np.maximum(b2 * u, np.abs(g) + 1e-8)
            w = w - rate / (1 - b1**t) * m / u
        return w

    return run


def nadam(decay: float, psi: float, decoupled: bool, b1: float = 0.9, b2: float = 0.999) -> Reference:
    """Dozat 2016, algorithm 2, with his schedule of the momentum."""

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        m, v, product = np.zeros_like(w), np.zeros_like(w), 1.0
        for t, g in enumerate(gradients, 1):
            w, g = (w * (1 - rate * decay), g) if decoupled else (w, g + decay * w)
            mu, after = (b1 * (1 - 0.5 * 0.96 ** (n * psi)) for n in (t, t + 1))
            product *= mu
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            mixed = (1 - mu) * g / (1 - product) + after * m / (1 - product * after)
            w = w - rate * mixed / (np.sqrt(v / (1 - b2**t)) + 1e-8)
        return w

    return run


def radam(decay: float, decoupled: bool, b1: float = 0.9, b2: float = 0.999) -> Reference:
    """Liu et al. 2020, algorithm 2, with torch's bound of 5."""

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        m, v, end = np.zeros_like(w), np.zeros_like(w), 2 / (1 - b2) - 1
        for t, g in enumerate(gradients, 1):
            w, g = (w * (1 - rate * decay), g) if decoupled else (w, g + decay * w)
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            count = end - 2 * t * b2**t / (1 - b2**t)
            step = m / (1 - b1**t)
            if count > 5:
                r = np.sqrt((count - 4) * (count - 2) * end / ((end - 4) * (end - 2) * count))
                step = step * r * np.sqrt(1 - b2**t) / (np.sqrt(v) + 1e-8)
            w = w - rate * step
        return w

    return run


CASES: list[tuple[dict[str, Any], Reference]] = [
    ({"name": "adamw"}, adamw(0.9, 0.999, 1e-8, 0.01, True)),
    ({"name": "adamw", "bias_correction": False, "weight_decay": 0.1}, adamw(0.9, 0.999, 1e-8, 0.1, False)),
    ({"name": "adamw", "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0}, adamw(0.8, 0.95, 1e-4, 0, True)),
    ({"name": "adamw_8bit", "weight_decay": 0.1}, adamw(0.9, 0.999, 1e-8, 0.1, True)),  # small arrays are not packed
    ({"name": "adamw_8bit", "bias_correction": False}, adamw(0.9, 0.999, 1e-8, 0.01, False)),
    ({"name": "adam"}, adam(0, False)),
    ({"name": "adam", "weight_decay": 0.1, "amsgrad": True}, adam(0.1, True)),
    ({"name": "adam", "eps": 1e-3, "betas": (0, 0.5)}, adam(0, False, 1e-3, 0, 0.5)),
    ({"name": "adam_8bit", "weight_decay": 0.1}, adam(0.1, False)),
    ({"name": "adamax", "weight_decay": 0.1}, adamax(0.1)),
    ({"name": "nadam"}, nadam(0, 4e-3, False)),
    ({"name": "nadam", "weight_decay": 0.1, "momentum_decay": 0.02}, nadam(0.1, 0.02, False)),
    ({"name": "nadam", "weight_decay": 0.1, "decoupled_weight_decay": True}, nadam(0.1, 4e-3, True)),
    ({"name": "radam", "weight_decay": 0.1}, radam(0.1, False)),
    ({"name": "radam", "weight_decay": 0.1, "decoupled_weight_decay": True}, radam(0.1, True)),
    ({"name": "radam", "betas": (0.9, 0.5)}, radam(0, False, 0.9, 0.5)),  # never rectified
]


@pytest.mark.parametrize(("settings", "reference"), CASES)
def test_ten_updates_are_the_papers(settings: dict[str, Any], reference: Reference) -> None:
    assert optimizer_cases.error(settings, reference) <= 1e-6


@pytest.mark.parametrize(("beta", "first"), [(0.999, 6), (0.99999, 6), (0.8, 7), (0.6, None), (0.0, None)])
def test_the_first_rectified_update(beta: float, first: int | None) -> None:
    assert first_rectified(beta) == first
