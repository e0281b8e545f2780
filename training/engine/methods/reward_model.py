"""A reward model: −log σ(r_chosen − r_rejected − m), r a linear function of the last token's hidden state.

Bradley and Terry 1952; Ouyang et al. 2022, arXiv 2203.02155, equation 1; the margin m of Touvron et al. 2023.
The head is saved as ``score.weight`` beside the adapter.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine.catalog.preference_methods import RewardModel as Settings
from training.engine.learning.method import Method, Terms
from training.engine.learning.pairs import TERMS, pair, summed
from training.engine.losses import preferences
from training.engine.models import scalar_heads
from training.engine.models.heads import Head
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Batch


class RewardModel(Method):
    """See the module."""

    unit = "example"
    terms = TERMS

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._head: Head | None = None

    def prepare(self, model: nn.Module) -> None:
        self._head = scalar_heads.put(model, scalar_heads.SCORE)

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
        margin = float(row.get("margin") or 0.0) if self.settings.use_margin else 0.0
        return pair(row, tokenizer, max_seq_length).noted({"margin": margin}, {})

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        assert self._head is not None, "prepare() comes first"
        scores = scalar_heads.of_ends(model, self._head, scalar_heads.SCORE, batch.ids, batch.ends).reshape(-1, 2)
        loss, terms = preferences.reward(
            scores[:, 0],
            scores[:, 1],
            # What shapes the training has no place in an evaluation.
            batch.numbers["margin"] if model.training else mx.zeros_like(scores[:, 0]),
            center_rewards_coefficient=self.settings.center_rewards_coefficient if model.training else 0.0,
        )
        return summed(batch, loss, terms)
