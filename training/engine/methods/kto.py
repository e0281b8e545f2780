"""Kahneman–Tversky optimisation: w_d (1 − σ(β (r − z₀))) for good answers, w_u (1 − σ(β (z₀ − r))) for bad ones.

Ethayarajh et al. 2024, arXiv 2402.01306. z₀, how far the model has moved, is estimated from answers to *other*
questions: every row brings along the answer of the row behind it. TRL takes the neighbours in a micro-batch in
place of it; here it is the same answer in every epoch, so that the reference can be computed once.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine.catalog.preference_methods import Kto as Settings
from training.engine.learning.method import Terms
from training.engine.learning.notes import Desk, Per
from training.engine.learning.pairs import Answers, summed
from training.engine.losses import preferences
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows import masks
from training.engine.rows.batches import Rows
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Batch

REFERENCE, OTHER = "reference", "reference_other"


class Kto(Answers):
    """See the module."""

    terms = ("reward_chosen", "reward_rejected", "reward_accuracy", "desirable", "kl")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._estimates = settings.loss_type == "kto"

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
        own = masks.answer(row["prompt"], row["completion"], tokenizer, max_seq_length)
        return Example((own,), {"label": float(row["label"])}, row={k: row[k] for k in ("prompt", "completion")})

    def annotate(self, model: nn.Module, splits: dict[str, Rows], desk: Desk) -> dict[str, Rows]:
        del model
        if self._estimates:
            splits = {name: _with_neighbours(rows, desk) for name, rows in splits.items()}

        def compute(batch: Batch) -> dict[tuple[Per, str], mx.array]:
            sums, _ = self.log_probs(batch, self.settings.sequences)
            return {("example", name): sums[:, i] for i, name in enumerate(self._names)}

        key = {"estimates": self._estimates}
        return {name: desk.noted(name, rows, "log-probabilities", key, compute) for name, rows in splits.items()}

    @property
    def _names(self) -> tuple[str, ...]:
        return (REFERENCE, OTHER) if self._estimates else (REFERENCE,)

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        del model
        s = self.settings
        sums, _ = self.log_probs(batch, s.sequences)
        count = mx.maximum(mx.sum(batch.real), 1)
        moved = mx.zeros(())
        if self._estimates:
            apart = mx.where(batch.real > 0, mx.stop_gradient(sums[:, 1]) - batch.numbers[OTHER], 0.0)
            moved = mx.maximum(mx.sum(apart) / count, 0.0)
        loss, terms = preferences.kto(
            sums[:, 0],
            batch.numbers[REFERENCE],
            batch.numbers["label"],
            moved,
            beta=s.beta,
            loss_type=s.loss_type,
            desirable_weight=s.desirable_weight,
            undesirable_weight=s.undesirable_weight,
        )
        return summed(batch, loss, {**terms, "kl": mx.broadcast_to(moved, loss.shape)})


def _with_neighbours(rows: Rows, desk: Desk) -> Rows:
    """Each row with the answer of the next row behind its own prompt."""
    made = []
    for one, other in zip(rows.rows, [*rows.rows[1:], *rows.rows[:1]], strict=True):
        assert one.row is not None and other.row is not None
        foreign = masks.answer(one.row["prompt"], other.row["completion"], desk.tokenizer, desk.max_seq_length)
        # Where the prompt fills the whole length, nothing of a foreign answer is left: its own stands for it.
        parts = (one.parts[0], foreign if any(foreign.trained[1:]) else one.parts[0])
        made.append(Example(parts, one.numbers, one.arrays, one.row))
    return Rows(made, rows.left_out, rows.cut)
