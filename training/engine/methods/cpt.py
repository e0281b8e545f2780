"""Continued pre-training: the mean over all tokens t of −log p(x_t | x_<t), as a base model was trained.

A text that is longer than the sequence length becomes several sequences, each beginning with the last token of
the one before it, so that every token but the first is a target exactly once. Sequences lie end to end on one
token axis without padding, and none sees another: what packing is for, without its leak between texts.
"""

from __future__ import annotations

from typing import Any

from training.engine.catalog.supervised_methods import Cpt as Settings
from training.engine.learning.next_token import NextToken
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows.examples import Example
from training.engine.rows.masks import Encoded, encode


class Cpt(NextToken):
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(label_smoothing=settings.label_smoothing, z_loss=settings.z_loss)

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
        return Example.single(encode(row, tokenizer, "all", max_seq_length))

    def pieces(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> list[Example]:
        ids = encode(row, tokenizer, "all").ids
        starts = range(0, max(1, len(ids) - 1), max_seq_length - 1)
        parts = (ids[start : start + max_seq_length] for start in starts)
        return [Example.single(Encoded(part, [False] + [True] * (len(part) - 1), 0)) for part in parts]
