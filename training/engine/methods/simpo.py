"""Simple preference optimisation: −log σ(β/|y_c| log π(y_c|x) − β/|y_r| log π(y_r|x) − γ).

Meng et al. 2024, arXiv 2405.14734.
"""

from __future__ import annotations

import mlx.core as mx

from training.engine.catalog.preference_methods import SimPo as Settings
from training.engine.learning.method import Terms
from training.engine.learning.pairs import Pairs
from training.engine.losses import preferences
from training.engine.losses.preferences import Pair
from training.engine.rows.layouts import Batch


class SimPo(Pairs):
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def compare(self, policy: Pair, tokens: Pair, batch: Batch) -> tuple[mx.array, Terms]:
        del batch  # no reference is read from it
        s = self.settings
        return preferences.simpo(
            policy, tokens, beta=s.beta, simpo_gamma=s.simpo_gamma, label_smoothing=s.label_smoothing
        )
