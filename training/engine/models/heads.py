"""A model taken apart: the body that makes hidden states, and the head that makes logits of them.

The head, hidden size times vocabulary, is the largest matrix of a small model, and a training needs its
product at the trained positions only: often half of them, sometimes a tenth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from training.engine.rows.layouts import Batch


@dataclass(frozen=True, slots=True)
class Matrix:
    """A frozen head that is one matrix (vocabulary, hidden), packed or not, perhaps with a bias."""

    module: nn.Module

    @property
    def vocabulary(self) -> int:
        return int(self.module.weight.shape[0])

    def unpacked(self) -> Matrix:
        """Itself; a packed one on NVIDIA as a plain one, for the many products of one step (see unpack.py)."""
        if "scales" not in self.module or not mx.cuda.is_available():
            return self
        plain = nn.Linear.__new__(nn.Linear)
        nn.Module.__init__(plain)
        plain.weight = self.rows(slice(None))
        if "bias" in self.module:
            plain.bias = self.module.bias
        return Matrix(plain)

    def logits(self, hidden: mx.array) -> mx.array:
        """(n, hidden) → (n, vocabulary), float32."""
        return self._logits(hidden).astype(mx.float32)

    def _logits(self, hidden: mx.array) -> mx.array:
        if isinstance(self.module, nn.Linear | nn.QuantizedLinear):
            return self.module(hidden)
        return self.module.as_linear(hidden)

    def back(self, gradient: mx.array, like: mx.Dtype) -> mx.array:
        """Gradient by the logits (n, vocabulary) → by the hidden states (n, hidden)."""
        m = self.module
        if "scales" not in m:
            return gradient.astype(m.weight.dtype) @ m.weight
        packed = (m.weight, m.scales, m.get("biases"))
        return mx.quantized_matmul(gradient.astype(like), *packed, False, m.group_size, m.bits, m.mode)

    def rows(self, tokens: mx.array | slice) -> mx.array:
        """The rows of ``tokens`` (n,), so (n, hidden)."""
        m = self.module
        if "scales" not in m:
            return m.weight[tokens]
        biases = m.biases[tokens] if "biases" in m else None
        return mx.dequantize(m.weight[tokens], m.scales[tokens], biases, m.group_size, m.bits, m.mode)

    def first(self, vocabulary: int) -> Matrix:
        """Its first ``vocabulary`` rows."""
        m = self.module
        kind = nn.QuantizedLinear if "scales" in m else nn.Linear
        part = kind.__new__(kind)
        nn.Module.__init__(part)
        for name in ("weight", "scales", "biases", "bias"):
            if name in m:
                part[name] = m[name][:vocabulary]
        if "scales" in m:
            part.group_size, part.bits, part.mode = m.group_size, m.bits, m.mode
        return Matrix(part)

    def mean_row(self) -> mx.array:
        """Mean of all rows, (hidden,): what the gradient of a mean over the vocabulary looks like."""
        ones = mx.full((1, self.vocabulary), 1 / self.vocabulary)
        return self.back(ones, mx.float32)[0].astype(mx.float32)


@dataclass(frozen=True, slots=True)
class Head:
    """``project(body(ids))`` are the model's logits."""

    body: Callable[[mx.array], mx.array]
    """(rows, length) of ids → (rows, length, hidden)."""
    project: Callable[[mx.array], mx.array]
    """(…, hidden) → (…, vocabulary), float32."""
    matrix: Matrix | None
    """The projection as a frozen matrix; None when it is anything else."""

    def hidden(self, batch: Batch) -> mx.array:
        """Hidden states that predict the batch's targets, (targets, hidden)."""
        hidden = self.body(batch.ids)
        return hidden.reshape(-1, hidden.shape[-1])[batch.at]

    def within(self, vocabulary: int) -> Head:
        """The same for the first ``vocabulary`` tokens alone: two models may fill up their last rows differently."""
        if self.matrix is None:
            return replace(self, project=lambda hidden: self.project(hidden)[..., :vocabulary])
        if self.matrix.vocabulary == vocabulary:
            return self
        part = self.matrix.first(vocabulary)
        return Head(self.body, part.logits, part)


def find(model: nn.Module) -> Head:
    """``model`` taken apart.

    Most of mlx-lm's families are a ``model`` and an ``lm_head``, or the embedding used backwards. That
    this one is, is tried on a few tokens rather than believed. One that does more between the two (soft
    caps, scales) counts as body as a whole, and nothing is left for the head to do.
    """
    body = getattr(model, "model", None)
    module = projection(model, body)
    if isinstance(body, nn.Module) and module is not None:
        matrix = Matrix(module)
        if _same(model, lambda ids: matrix.logits(body(ids))):
            return Head(body, matrix.logits, matrix if _is_frozen(module) else None)
    return Head(model, lambda logits: logits.astype(mx.float32), None)


def vocabulary(model: nn.Module) -> int:
    """How many logits ``model`` gives for a token; nothing is computed."""
    return int(model(mx.array([[0]])).shape[-1])


def _same(model: nn.Module, parts: Callable[[mx.array], mx.array]) -> bool:
    was_training, ids = model.training, mx.array([[1, 2, 3, 1]])
    model.eval()
    try:
        whole, made = model(ids), parts(ids)
        return whole.shape == made.shape and bool(mx.allclose(whole, made, rtol=1e-3, atol=1e-3).item())
    except (ValueError, TypeError, AttributeError, RuntimeError):
        return False  # called in another way: the model as a whole will do
    finally:
        model.train(was_training)


def _is_frozen(module: nn.Module) -> bool:
    return not tree_flatten(module.trainable_parameters())


def projection(model: nn.Module, body: Any) -> nn.Module | None:
    """The layer that makes logits, as far as its place tells; that it does no more and no less is tried."""
    own = getattr(model, "lm_head", None)
    if isinstance(own, nn.Linear | nn.QuantizedLinear):
        return own
    embedding = getattr(body, "embed_tokens", None)
    return embedding if isinstance(embedding, nn.Embedding | nn.QuantizedEmbedding) else None
