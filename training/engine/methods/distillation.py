"""Distillation: (1 − α) T² D(teacher ‖ student) + α cross-entropy, a mean over trained tokens.

Hinton et al. 2015, arXiv 1503.02531; the divergences D of Agarwal et al. 2024, arXiv 2306.13649. The arithmetic:
:mod:`training.engine.losses_teacher`.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine import heads, losses_teacher
from training.engine.batches import Rows
from training.engine.catalog.distillation_methods import Distillation as Settings
from training.engine.examples import Example
from training.engine.heads import Head
from training.engine.layouts import Batch
from training.engine.losses_teacher import Aim
from training.engine.masks import encode
from training.engine.methods.method import Method, Terms
from training.engine.notes import Desk, Per
from training.engine.teachers import Teacher
from training.engine.tokenizer import Tokenizer

IDS, LOG_PROBS = "teacher_ids", "teacher_log_probs"


class Distillation(Method):
    """See the module. The teacher is held in memory (``top_k`` 0), or only until it has told its likeliest tokens."""

    terms = ("divergence", "cross_entropy")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.aim = Aim(settings.divergence, settings.temperature, settings.jsd_beta, settings.alpha)
        self._head: Head | None = None
        self._teacher: Head | None = None

    def prepare(self, model: nn.Module) -> None:
        self._head = heads.find(model)

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
        return Example.single(encode(row, tokenizer, self.settings.train_on, max_seq_length))

    def annotate(self, model: nn.Module, splits: dict[str, Rows], desk: Desk) -> dict[str, Rows]:
        assert self._head is not None, "prepare() comes first"
        k, temperature = self.settings.top_k, self.settings.temperature
        teacher = Teacher(desk, heads.vocabulary(model), k)
        self._head = self._head.within(teacher.vocabulary)
        if not k:
            self._teacher = teacher.head
            return splits

        def compute(batch: Batch) -> dict[tuple[Per, str], mx.array]:
            ids, log_probs = losses_teacher.likeliest(teacher.head, teacher.head.hidden(batch), k, temperature)
            return {("target", IDS): ids, ("target", LOG_PROBS): log_probs}

        key = {"top_k": k, "temperature": temperature, "vocabulary": teacher.vocabulary}
        noted = {
            name: desk.noted(name, rows, "teacher's likeliest tokens", key, compute, of=teacher.digest)
            for name, rows in splits.items()
        }
        teacher.leave()
        return noted

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        del model  # the head that prepare() found is its
        assert self._head is not None, "prepare() comes first"
        hidden = self._head.hidden(batch)
        if self._teacher is None:
            told = batch.extra[IDS], batch.extra[LOG_PROBS]
            each = losses_teacher.by_likeliest(self.aim, self._head, hidden, told, batch.targets)
        else:
            seen = mx.stop_gradient(self._teacher.hidden(batch))
            each = losses_teacher.whole(self.aim, (self._head, hidden), (self._teacher, seen), batch.targets)
        loss, apart, nats = mx.sum(mx.where(batch.counted[:, None] > 0, each, 0.0), axis=0)
        return {"loss": loss, "divergence": apart, "cross_entropy": nats}
