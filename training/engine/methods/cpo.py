"""Contrastive preference optimisation: −log σ(β (log π(y_c|x) − log π(y_r|x))) − α log π(y_c|x) / |y_c|.

Xu et al. 2024, arXiv 2401.08417.
"""

from __future__ import annotations

from mlx import nn

from training.engine import preferences
from training.engine.catalog.preference_methods import Cpo as Settings
from training.engine.layouts import Batch
from training.engine.methods.method import Terms
from training.engine.pairs import TERMS, Pairs, summed


class Cpo(Pairs):
    """See the module."""

    terms = TERMS

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        del model  # the head that prepare() found is its
        s = self.settings
        policy, tokens = self.both(batch)
        loss, terms = preferences.cpo(
            policy,
            tokens,
            beta=s.beta,
            loss_type=s.loss_type,
            label_smoothing=s.label_smoothing,
            cpo_alpha=s.cpo_alpha,
        )
        return summed(batch, loss, terms)
