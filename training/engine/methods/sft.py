"""Supervised fine-tuning: the mean over trained tokens t of −log p(x_t | x_<t)."""

from __future__ import annotations

from typing import Any

from training.engine.catalog.supervised_methods import Sft as Settings
from training.engine.learning.next_token import NextToken
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows.examples import Example
from training.engine.rows.masks import encode


class Sft(NextToken):
    """Cross-entropy of the next token over the tokens that the mask trains."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(label_smoothing=settings.label_smoothing, z_loss=settings.z_loss)
        self.settings = settings

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
        return Example.single(encode(row, tokenizer, self.settings.train_on, max_seq_length))
