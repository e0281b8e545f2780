"""Simple preference optimisation: −log σ(β/|y_c| log π(y_c|x) − β/|y_r| log π(y_r|x) − γ).

Meng et al. 2024, arXiv 2405.14734.
"""

from __future__ import annotations

from mlx import nn

from training.engine import preferences
from training.engine.catalog.preference_methods import SimPo as Settings
from training.engine.layouts import Batch
from training.engine.methods.method import Terms
from training.engine.pairs import TERMS, Pairs, summed


class SimPo(Pairs):
    """See the module."""

    terms = TERMS

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        del model  # the head that prepare() found is its
        s = self.settings
        policy, tokens = self.both(batch)
        loss, terms = preferences.simpo(
            policy, tokens, beta=s.beta, simpo_gamma=s.simpo_gamma, label_smoothing=s.label_smoothing
        )
        return summed(batch, loss, terms)
