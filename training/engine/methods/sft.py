"""Supervised fine-tuning: the mean over trained tokens t of −log p(x_t | x_<t)."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine import heads, losses
from training.engine.catalog.methods import Sft as Settings
from training.engine.examples import Example
from training.engine.layouts import Batch
from training.engine.masks import encode
from training.engine.methods.method import Method, Terms
from training.engine.tokenizer import Tokenizer


class Sft(Method):
    """Cross-entropy of the next token over the tokens that the mask trains."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._head: heads.Head | None = None

    def prepare(self, model: nn.Module) -> None:
        self._head = heads.find(model)

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
        return Example.single(encode(row, tokenizer, self.settings.train_on, max_seq_length))

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        assert self._head is not None, "prepare() comes first"
        # What shapes the training has no place in an evaluation: losses of two runs must be comparable.
        smoothing, z_loss = (self.settings.label_smoothing, self.settings.z_loss) if model.training else (0.0, 0.0)
        nats = losses.cross_entropy(
            self._head, self._head.hidden(batch), batch.targets, label_smoothing=smoothing, z_loss=z_loss
        )
        return {"loss": mx.sum(mx.where(batch.counted > 0, nats, 0.0))}
