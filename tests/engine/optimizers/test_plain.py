"""SGD, Lion, RMSprop, Adagrad, AdaDelta and Adafactor against torch's and transformers' formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.engine import optimizer_cases
from tests.engine.optimizer_cases import Array, Reference


def sgd(momentum: float, nesterov: bool, decay: float, dampening: float = 0) -> Reference:
    """torch.optim.SGD: the first update is not damped."""

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        v = None
        for g in gradients:
            g = g + decay * w
            v = g if v is None else momentum * v + (1 - dampening) * g
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


def rmsprop(alpha: float, momentum: float, centered: bool, decay: float) -> Reference:
    """torch.optim.RMSprop."""

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        v, mean, b = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
        for g in gradients:
            g = g + decay * w
            v, mean = alpha * v + (1 - alpha) * g**2, alpha * mean + (1 - alpha) * g
            b = momentum * b + g / (np.sqrt(v - mean**2 if centered else v) + 1e-8)
            w = w - rate * b
        return w

    return run


def adagrad(lr_decay: float, decay: float, first: float) -> Reference:
    """torch.optim.Adagrad."""

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        total = np.full_like(w, first)
        for t, g in enumerate(gradients):
            g = g + decay * w
            total = total + g**2
            w = w - rate / (1 + t * lr_decay) * g / (np.sqrt(total) + 1e-10)
        return w

    return run


def adadelta(rho: float, decay: float) -> Reference:
    """torch.optim.Adadelta."""

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        v, u = np.zeros_like(w), np.zeros_like(w)
        for g in gradients:
            g = g + decay * w
            v = rho * v + (1 - rho) * g**2
            change = np.sqrt(u + 1e-6) / np.sqrt(v + 1e-6) * g
            u = rho * u + (1 - rho) * change**2
            w = w - rate * change
        return w

    return run


def adafactor(*, scaled: bool = False, relative: bool = False, beta1: float = 0, decay: float = 0) -> Reference:
    """transformers' Adafactor: Shazeer and Stern 2018, algorithms 4 to 6."""

    def rms(x: Array) -> float:
        return float(np.sqrt(np.mean(x**2)))

    def run(w: Array, gradients: list[Array], rate: float) -> Array:
        rows, columns, m = np.zeros(w.shape[0]), np.zeros(w.shape[1]), np.zeros_like(w)
        for t, g in enumerate(gradients, 1):
            lr = (min(1e-2, t**-0.5) if relative else rate) * (max(1e-3, rms(w)) if scaled else 1)
            b2 = 1 - t**-0.8
            rows = b2 * rows + (1 - b2) * (g**2 + 1e-30).mean(axis=1)
            columns = b2 * columns + (1 - b2) * (g**2 + 1e-30).mean(axis=0)
            update = g / np.sqrt(rows[:, None] * columns[None] / rows.mean())
            update = lr * update / max(1.0, rms(update))
            m = beta1 * m + (1 - beta1) * update
            w = w - decay * lr * w - m
        return w

    return run


CASES: list[tuple[dict[str, Any], Reference]] = [
    ({"name": "sgd", "momentum": 0}, sgd(0, False, 0)),
    ({"name": "sgd"}, sgd(0.9, False, 0)),
    ({"name": "sgd", "nesterov": True, "weight_decay": 0.1}, sgd(0.9, True, 0.1)),
    ({"name": "sgd", "dampening": 0.4}, sgd(0.9, False, 0, 0.4)),
    ({"name": "lion"}, lion(0.9, 0.99, 0)),
    ({"name": "lion", "betas": (0.95, 0.98), "weight_decay": 0.1}, lion(0.95, 0.98, 0.1)),
    ({"name": "lion_8bit", "weight_decay": 0.1}, lion(0.9, 0.99, 0.1)),  # small arrays are not packed
    ({"name": "rmsprop"}, rmsprop(0.99, 0, False, 0)),
    ({"name": "rmsprop", "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1}, rmsprop(0.9, 0.5, False, 0.1)),
    ({"name": "rmsprop", "alpha": 0.5, "centered": True}, rmsprop(0.5, 0, True, 0)),
    ({"name": "adagrad"}, adagrad(0, 0, 0)),
    ({"name": "adagrad", "lr_decay": 0.2, "weight_decay": 0.1, "initial_accumulator_value": 1}, adagrad(0.2, 0.1, 1)),
    ({"name": "adadelta"}, adadelta(0.9, 0)),
    ({"name": "adadelta", "rho": 0.8, "weight_decay": 0.1}, adadelta(0.8, 0.1)),
    ({"name": "adafactor"}, adafactor()),
    ({"name": "adafactor", "scale_parameter": True, "beta1": 0.9}, adafactor(scaled=True, beta1=0.9)),
    ({"name": "adafactor", "relative_step": True, "weight_decay": 0.1}, adafactor(relative=True, decay=0.1)),
]


@pytest.mark.parametrize(("settings", "reference"), CASES)
def test_ten_updates_are_the_references(settings: dict[str, Any], reference: Reference) -> None:
    assert optimizer_cases.error(settings, reference) <= 1e-6


def test_centring_survives_a_gradient_that_never_changes() -> None:
    same = [np.full((2, 3), 0.7)] * 10
    settings = {"name": "rmsprop", "centered": True, "alpha": 0.1}
    assert np.isfinite(optimizer_cases.course(settings, np.zeros((2, 3)), same, 1e-3)[-1]).all()
