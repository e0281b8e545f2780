"""Contrastive preference optimisation: −log σ(β (log π(y_c|x) − log π(y_r|x))) − α log π(y_c|x) / |y_c|.

Xu et al. 2024, arXiv 2401.08417.
"""

from __future__ import annotations

import mlx.core as mx

from training.engine.catalog.preference_methods import Cpo as Settings
from training.engine.learning.method import Terms
from training.engine.learning.pairs import Pairs
from training.engine.losses import preferences
from training.engine.losses.preferences import Pair
from training.engine.rows.layouts import Batch


class Cpo(Pairs):
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def compare(self, policy: Pair, tokens: Pair, batch: Batch) -> tuple[mx.array, Terms]:
        del batch  # no reference is read from it
        s = self.settings
        return preferences.cpo(
            policy,
            tokens,
            beta=s.beta,
            loss_type=s.loss_type,
            label_smoothing=s.label_smoothing,
            cpo_alpha=s.cpo_alpha,
        )
