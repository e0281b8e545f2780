"""Loss functions: pure, summed over tokens, so that micro-batches add up to the large batch."""

from __future__ import annotations

import mlx.core as mx
from mlx import nn


def next_token(logits: mx.array, targets: mx.array, trained: mx.array) -> mx.array:
    """Sum of the cross-entropy over the trained targets, in nats. Shape ().

    ``logits`` (…, vocab) of any float type, ``targets`` (…) integers, ``trained`` (…) 0 or 1. A label
    outside the vocabulary would be gathered out of bounds without an error (MLX has no ignore_index),
    so untrained targets are set to 0 before and masked after, by ``where``: 0 times NaN is NaN.
    """
    keep = trained > 0
    safe = mx.where(keep, targets, 0)
    nats = nn.losses.cross_entropy(logits.astype(mx.float32), safe)
    return mx.sum(mx.where(keep, nats, 0.0))
