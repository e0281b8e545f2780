"""Odds ratio preference optimisation: −p̄_c − β log σ(log odds(p̄_c) − log odds(p̄_r)), p̄ = log π(y|x) / |y|.

Hong et al. 2024, arXiv 2403.07691.
"""

from __future__ import annotations

from mlx import nn

from training.engine import preferences
from training.engine.catalog.preference_methods import Orpo as Settings
from training.engine.layouts import Batch
from training.engine.methods.method import Terms
from training.engine.pairs import TERMS, Pairs, summed


class Orpo(Pairs):
    """See the module."""

    terms = TERMS

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        del model  # the head that prepare() found is its
        s = self.settings
        policy, tokens = self.both(batch)
        loss, terms = preferences.orpo(policy, tokens, beta=s.beta)
        return summed(batch, loss, terms)
