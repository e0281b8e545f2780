"""NEFTune: noise on the embeddings of the tokens that are trained on (Jain et al. 2023, arXiv 2310.05914, algorithm 1).

    x + uniform(-1, 1) * alpha / sqrt(L * d)        L tokens of the row, d numbers of an embedding

L is the row's own length, also where several rows lie on one axis: attention's cuts say where they end. In rows
that are padded one under the other (families that cannot share an axis) L leaves out the zeros at the end.
Off in evaluation and generation. Drawn from MLX's one random stream, so a training that goes on draws the same.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn

from training.engine.errors import ConfigError, Problem
from training.engine.rows import segments
from training.engine.rows.segments import ByRow, BySlot

_NAMES = (
    "embed_tokens",
    "wte",
    "tok_embeddings",
    "word_embeddings",
    "token_embeddings",
    "embeddings",
    "embedding",
    "embed",
    "embed_in",
)


def add_noise(model: nn.Module, alpha: float) -> None:
    """Make the embeddings of ``model`` noisy while it is in training mode.

    The layer gets a subclass of its own class; changing the class itself would reach every other model of the
    process. Raises ConfigError ``neftune.no_embedding``.
    """
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding | nn.QuantizedEmbedding) and name.rpartition(".")[2] in _NAMES
    ]
    if not found:
        problem = Problem(
            ("neftune_noise_alpha",),
            "neftune.no_embedding",
            "This architecture has no table of embeddings that noise could be added to.",
            "Set the noise to 0.",
        )
        raise ConfigError.of([problem])
    kind = type(found[0])
    found[0].__class__ = type(f"Noisy{kind.__name__}", (kind,), {"__call__": _noisy(kind, alpha)})


def _noisy(kind: type[nn.Module], alpha: float) -> Any:
    stock = kind.__call__

    def call(self: nn.Module, ids: mx.array) -> mx.array:
        x = stock(self, ids)
        if not self.training:
            return x
        width = alpha / mx.sqrt(mx.maximum(lengths(ids), 1) * x.shape[-1])
        noise = mx.random.uniform(-1, 1, x.shape, mx.float32) * width[..., None]
        return x + noise.astype(x.dtype)

    return call


def lengths(ids: mx.array) -> mx.array:
    """Tokens of the row that each of ``ids`` (rows, width) is in, float32; a filling place has any."""
    cuts = segments.current()
    if isinstance(cuts, ByRow):
        return mx.array(np.repeat(cuts.lengths, cuts.lengths).astype(np.float32)).reshape(ids.shape)
    if isinstance(cuts, BySlot):
        filling = ids.shape[-1] - 1
        counts = (cuts.slots != filling).sum(axis=1).astype(mx.float32)
        return counts[cuts.back // cuts.slots.shape[1]].reshape(ids.shape)
    # Padded: a row ends before its last zeros.
    places = mx.arange(1, ids.shape[-1] + 1) * (ids != 0)
    return mx.broadcast_to(places.max(axis=-1, keepdims=True).astype(mx.float32), ids.shape)
