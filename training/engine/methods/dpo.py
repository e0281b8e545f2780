"""Direct preference optimisation: −log σ(β (r_chosen − r_rejected)), r = log π(y|x) − log π_ref(y|x).

Rafailov et al. 2023, arXiv 2305.18290; the other losses in :func:`training.engine.losses.preferences.dpo`.
"""

from __future__ import annotations

import mlx.core as mx
from mlx import nn

from training.engine.catalog.preference_methods import Dpo as Settings
from training.engine.learning.method import Terms
from training.engine.learning.notes import Desk
from training.engine.learning.pairs import CHOSEN, REJECTED, Pairs
from training.engine.losses import preferences
from training.engine.losses.preferences import Pair
from training.engine.rows.batches import Rows
from training.engine.rows.layouts import Batch


class Dpo(Pairs):
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def annotate(self, model: nn.Module, splits: dict[str, Rows], desk: Desk) -> dict[str, Rows]:
        del model  # the head that prepare() found is its
        return self.with_reference(splits, desk)

    def compare(self, policy: Pair, tokens: Pair, batch: Batch) -> tuple[mx.array, Terms]:
        s, reference = self.settings, (batch.numbers[CHOSEN], batch.numbers[REJECTED])
        return preferences.dpo(
            policy, reference, tokens, beta=s.beta, loss_type=s.loss_type, label_smoothing=s.label_smoothing
        )
