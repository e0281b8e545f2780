"""Distillation: (1 − α) T² D(teacher ‖ student) + α cross-entropy, a mean over trained tokens.

Hinton et al. 2015, arXiv 1503.02531; the divergences D of Agarwal et al. 2024, arXiv 2306.13649. The arithmetic:
:mod:`training.engine.losses.teacher_loss`.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine.catalog.distillation_methods import Distillation as Settings
from training.engine.learning.notes import Desk, Per
from training.engine.learning.teachers import IDS, LOG_PROBS, Taught
from training.engine.losses import teacher_loss
from training.engine.losses.teacher_loss import Aim
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows.batches import Rows
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Batch
from training.engine.rows.masks import encode


class Distillation(Taught):
    """See the module. The teacher is held in memory (``top_k`` 0), or only until it has told its likeliest tokens."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(Aim(settings.divergence, settings.temperature, settings.jsd_beta, settings.alpha))
        self.settings = settings

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
        return Example.single(encode(row, tokenizer, self.settings.train_on, max_seq_length))

    def annotate(self, model: nn.Module, splits: dict[str, Rows], desk: Desk) -> dict[str, Rows]:
        k, temperature = self.settings.top_k, self.settings.temperature
        teacher = self.ask(model, desk, k)
        if not k:
            return splits

        def compute(batch: Batch) -> dict[tuple[Per, str], mx.array]:
            ids, log_probs = teacher_loss.likeliest(teacher.head, teacher.head.hidden(batch), k, temperature)
            return {("target", IDS): ids, ("target", LOG_PROBS): log_probs}

        key = {"top_k": k, "temperature": temperature, "vocabulary": teacher.vocabulary}
        noted = {
            name: desk.noted(name, rows, "teacher's likeliest tokens", key, compute, of=teacher.digest)
            for name, rows in splits.items()
        }
        teacher.leave()
        return noted
