"""Quantised layers on NVIDIA: unpacked for each product of many rows, instead of multiplied packed.

MLX's packed product is made for few rows, as in generating. In a training step on CUDA, unpacking a
layer's weight and multiplying plainly is twice as fast (docs/lab-log.md); the weight is unpacked
again in the backward pass, so at most one layer's lies in memory.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn

MANY = 256  # rows of the input from which unpacking is faster


def unpack_for_products(model: nn.Module) -> None:
    """Make every quantised linear layer of ``model`` unpack itself for products of many rows."""
    for module in model.modules():
        if isinstance(module, nn.QuantizedLinear):
            kind = type(module)
            module.__class__ = type(f"Unpacking{kind.__name__}", (kind,), {"__call__": _unpacking(kind)})


def _unpacking(kind: type[nn.Module]) -> Any:
    stock = kind.__call__

    def call(self: Any, x: mx.array) -> mx.array:
        if x.size // x.shape[-1] < MANY:
            return stock(self, x)
        y = _product(self, x.dtype)(x, self.weight, self.scales, self.get("biases", mx.zeros(0)))
        return y + self.bias if "bias" in self else y

    return call


def _product(layer: Any, dtype: mx.Dtype) -> Any:
    """x ↦ x Wᵀ, (…, columns) → (…, rows), differentiable in x only: the packed weight is frozen."""

    def unpacked(packed: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
        given = biases if biases.size else None
        weight = mx.dequantize(packed, scales, given, layer.group_size, layer.bits, layer.mode)
        return weight.astype(dtype)

    @mx.custom_function
    def product(x: mx.array, packed: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
        return x @ unpacked(packed, scales, biases).T

    @product.vjp
    def back(primals: Any, cotangent: mx.array, _output: mx.array) -> tuple[mx.array, ...]:
        _, *rest = primals
        return (cotangent @ unpacked(*rest), *(mx.zeros_like(part) for part in rest))

    return product
