"""The fast exponentials: as exact as MLX's own, at the ends, too, with the gradients of the plain formulas."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from tests.fakes import families
from training.engine.machine import cpu_math

GRID = np.linspace(-87, 87, 200_001).astype(np.float32)


def test_exp_is_exact_to_float32() -> None:
    true = np.exp(GRID.astype(np.float64))
    ours, own = (np.abs(np.array(f(mx.array(GRID)), dtype=np.float64) / true - 1) for f in (cpu_math.exp, mx.exp))
    assert ours.max() <= 1.1 * own.max()
    near = np.abs(GRID) < 1
    assert ours[near].max() < 3e-7


def test_sigmoid_is_exact_to_float32() -> None:
    true = 1 / (1 + np.exp(-GRID.astype(np.float64)))
    ours = np.array(cpu_math.sigmoid(mx.array(GRID)), dtype=np.float64)
    assert np.abs(ours - true).max() < 2e-7
    near = np.abs(GRID) < 30
    assert np.abs(ours / true - 1)[near].max() < 5e-6


def test_the_far_ends_are_no_nan() -> None:
    far = mx.array([-math.inf, -1e30, -200.0, 200.0, 1e30])
    assert cpu_math.exp(far)[:3].tolist() == [0, 0, 0]
    assert cpu_math.sigmoid(far).tolist() == pytest.approx([0, 0, 0, 1, 1], abs=1e-38)


def test_softmax_gives_no_weight_to_minus_infinity() -> None:
    x = mx.array([[1.0, -math.inf, 2.0], [-500.0, -400.0, -math.inf]])
    weights = cpu_math.softmax(x)
    assert mx.allclose(weights, mx.softmax(x, axis=-1), atol=1e-7)
    assert (weights[0, 1].item(), weights[1, 2].item()) == (0, 0)


@pytest.mark.parametrize("name", ["softmax", "swiglu"])
def test_gradients_are_the_plain_formulas(name: str) -> None:
    x, y = mx.random.normal((5, 33), key=mx.random.key(0)) * 3, mx.random.normal((5, 33), key=mx.random.key(1))
    plain = {"softmax": lambda x, y: mx.softmax(x, axis=-1) * y, "swiglu": lambda x, y: nn.silu(x) * y}[name]
    quick = {"softmax": lambda x, y: cpu_math.softmax(x) * y, "swiglu": cpu_math.swiglu}[name]
    one, other = (mx.grad(lambda x, y, f=f: (f(x, y) ** 2).sum(), argnums=[0, 1])(x, y) for f in (plain, quick))
    assert all(mx.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("first", [0, 5])
def test_attention_is_mlxs(groups: int, first: int) -> None:
    keys = [mx.random.normal((1, h, n, 8)) for h, n in ((4, 7), (groups, 7 + first), (groups, 7 + first))]
    stock = lambda *qkv: mx.fast.scaled_dot_product_attention(*qkv, scale=0.3, mask="causal")
    quick = lambda *qkv: cpu_math.attention(*qkv, 0.3, None, first=first)
    assert mx.allclose(stock(*keys), quick(*keys), atol=1e-5)
    one, other = (mx.grad(lambda *a, f=f: mx.sin(f(*a)).sum(), argnums=[0, 1, 2])(*keys) for f in (stock, quick))
    assert all(mx.allclose(a, b, atol=1e-5) for a, b in zip(one, other, strict=True))


def test_models_keep_their_outputs() -> None:
    model, ids = families.make("llama"), mx.array([[3, 1, 4, 1, 5]])
    before = model(ids)
    cpu_math.install(model)
    cpu_math.install(model)
    assert mx.allclose(model(ids), before, atol=1e-5)
