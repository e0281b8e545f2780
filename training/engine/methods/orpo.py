"""Odds ratio preference optimisation: −p̄_c − β log σ(log odds(p̄_c) − log odds(p̄_r)), p̄ = log π(y|x) / |y|.

Hong et al. 2024, arXiv 2403.07691.
"""

from __future__ import annotations

import mlx.core as mx

from training.engine.catalog.preference_methods import Orpo as Settings
from training.engine.learning.method import Terms
from training.engine.learning.pairs import Pairs
from training.engine.losses import preferences
from training.engine.losses.preferences import Pair
from training.engine.rows.layouts import Batch


class Orpo(Pairs):
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def compare(self, policy: Pair, tokens: Pair, batch: Batch) -> tuple[mx.array, Terms]:
        del batch  # no reference is read from it
        return preferences.orpo(policy, tokens, beta=self.settings.beta)
