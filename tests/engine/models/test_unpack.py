"""Unpacked products of quantised layers: the values and gradients of the packed ones."""

from __future__ import annotations

import mlx.core as mx
import pytest
from mlx import nn

from training.engine.models import unpack


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [3, 300])
def test_values_and_gradients_are_the_packed_ones(bits: int, bias: bool, rows: int) -> None:
    packed = nn.QuantizedLinear.from_linear(nn.Linear(64, 48, bias=bias), 32, bits)
    if bias:
        packed.bias = mx.arange(48) / 10
    model = nn.Sequential(packed)
    x = mx.random.normal((2, rows, 64), key=mx.random.key(0))
    loss = lambda x: (mx.sin(model(x)) ** 2).sum()
    value, gradient = mx.value_and_grad(loss)(x)
    unpack.unpack_for_products(model)
    again, other = mx.value_and_grad(loss)(x)
    assert isinstance(packed, nn.QuantizedLinear)
    assert again.item() == pytest.approx(value.item(), rel=1e-5)
    assert mx.allclose(gradient, other, atol=1e-4)


def test_a_packed_weight_under_an_adapter_is_left_alone() -> None:
    packed = nn.QuantizedLinear.from_linear(nn.Linear(64, 48), 32, 4)
    before = packed.weight
    unpack.unpack_for_products(nn.Sequential(packed))
    gradient = nn.value_and_grad(packed, lambda x: packed(x).sum())(mx.ones((300, 64)))[1]
    assert "weight" not in gradient
    assert mx.array_equal(packed.weight, before)
