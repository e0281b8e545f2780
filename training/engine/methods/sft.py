"""Supervised fine-tuning: the mean over trained tokens t of −log p(x_t | x_<t)."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine import losses
from training.engine.batches import Batch
from training.engine.catalog.methods import Sft as Settings
from training.engine.masks import Encoded, encode
from training.engine.tokenizer import Tokenizer


class Sft:
    """Cross-entropy of the next token over the tokens that the mask trains."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Encoded:
        return encode(row, tokenizer, self.settings.train_on, max_seq_length)

    def loss(self, model: nn.Module, batch: Batch) -> mx.array:
        logits = model(batch.ids[:, :-1])
        return losses.next_token(logits, batch.ids[:, 1:], batch.trained[:, 1:])
