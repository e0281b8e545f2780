"""Supervised fine-tuning: the mean over trained tokens t of −log p(x_t | x_<t)."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn

from training.engine import heads, losses
from training.engine.batches import Batch
from training.engine.catalog.methods import Sft as Settings
from training.engine.masks import Encoded, encode
from training.engine.tokenizer import Tokenizer


class Sft:
    """Cross-entropy of the next token over the tokens that the mask trains."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._head: heads.Head | None = None

    def prepare(self, model: nn.Module) -> None:
        self._head = heads.find(model)

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Encoded:
        return encode(row, tokenizer, self.settings.train_on, max_seq_length)

    def loss(self, model: nn.Module, batch: Batch) -> mx.array:
        ids, targets, trained = batch.ids[:, :-1], batch.ids[:, 1:], batch.trained[:, 1:]
        if self._head is None or batch.tokens == 0:
            return losses.next_token(model(ids), targets, trained)
        at = mx.array(np.flatnonzero(np.array(trained)).astype(np.int32))
        logits = heads.logits_at(self._head, ids, at)
        return losses.next_token(logits, targets.reshape(-1)[at], mx.ones_like(at))
