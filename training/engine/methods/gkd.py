"""Generalised knowledge distillation: the student answers, and the teacher shows what it would say at each token.

Agarwal et al. 2024, arXiv 2306.13649, algorithm 1: with probability λ a rollout consists of the student's own answers,
else of those in the data. The answers are taken as given: no gradient goes through the drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn

from training.engine.catalog.distillation_methods import Gkd as Settings
from training.engine.errors import DataError
from training.engine.generation import answering
from training.engine.generation.answering import Answering
from training.engine.generation.sampling import Sampling
from training.engine.learning.notes import Desk
from training.engine.learning.online import Collected, Numbers, Online
from training.engine.learning.shares import Shares
from training.engine.learning.teachers import Taught
from training.engine.losses.teacher_loss import Aim
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows import masks, segments
from training.engine.rows.batches import Rows, batches_in_order
from training.engine.rows.examples import Example

_HELD_OUT = (20230613,)  # seed of the answers to held-out prompts


class Gkd(Taught, Online):
    """See the module. The teacher stays in memory."""

    samples = 1
    passes = 1

    def __init__(self, settings: Settings) -> None:
        super().__init__(Aim(settings.divergence, settings.temperature, settings.jsd_beta))
        self.settings = settings
        self.prompts, self.grows = settings.rollout_batch, settings.max_completion_length
        self._shares = Shares()

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
        return answering.prompt(row, tokenizer, max_seq_length)

    def annotate(self, model: nn.Module, splits: dict[str, Rows], desk: Desk) -> dict[str, Rows]:
        every = [row for rows in splits.values() for row in rows.rows]
        self._refuse_unanswered(splits["train"])
        self._model, self._desk = model, desk
        self._vocabulary = self.ask(model, desk).vocabulary
        drawn = Sampling(self.settings.sampling_temperature)
        self._answering = Answering(model, desk.tokenizer, drawn, self.grows, every)
        return splits

    def _refuse_unanswered(self, rows: Rows) -> None:
        bare = sum(answering.asked_by(row).reference is None for row in rows.rows)
        if bare and self.settings.lmbda < 1:
            raise DataError(
                "gkd.no_answers",
                f"{bare} of the {len(rows.rows)} prompts have no answer, and a share of "
                f"{1 - self.settings.lmbda:g} of the rollouts is to be taken from the data.",
                "Set the share of own answers to 1, or choose a data set with answers.",
            )

    def collect(self, prompts: Sequence[Example], seed: Sequence[int], check: Callable[[], None]) -> Collected:
        shares = self._shares.turn()
        own = np.random.Generator(np.random.PCG64(list(seed))).random() < self.settings.lmbda
        if own:
            examples, told = self._answered(prompts, seed, check)
        else:
            examples, told = [self._given(prompt) for prompt in prompts], {}
        told |= {"own_answers": float(own), "answer_tokens": float(np.mean([one.targets for one in examples]))}
        return Collected(examples, {**told, **shares})

    def _answered(
        self, prompts: Sequence[Example], seed: Sequence[int], check: Callable[[], None]
    ) -> tuple[list[Example], Numbers]:
        """The student's own answers."""
        self._desk.say.phase("answer", detail=f"{len(prompts)} answers")
        with self._shares.span("generation"):
            answers = self._answering.answers(prompts, 1, seed, check)
        ended = float(np.mean([one.ended for one in answers]))
        return [self._known(one.example()) for one in answers], {"finished_share": ended}

    def _known(self, example: Example) -> Example:
        """Up to the first token that is a mere filling of the student's table: the teacher may not have it."""
        part = example.parts[0]
        end = next((at for at, token in enumerate(part.ids) if token >= self._vocabulary), len(part.ids))
        return example.shortened(end) if end < len(part.ids) else example

    def _given(self, prompt: Example) -> Example:
        """The answer in the data."""
        one, desk = answering.asked_by(prompt), self._desk
        assert one.reference is not None, "refused before the first step"
        # A prompt may be as long as a row; then its answer begins behind that.
        found = masks.answer(one.prompt, one.reference, desk.tokenizer, desk.max_seq_length + self.grows)
        return Example.single(found)

    def judge(self, prompts: Sequence[Example], check: Callable[[], None]) -> Numbers:
        """Loss and terms over the student's own answers, as means over their tokens."""
        was_training = self._model.training
        self._model.eval()
        try:
            with self._shares.span():
                examples, _ = self._answered(prompts, _HELD_OUT, check)
                return self._means([one for one in examples if one.teaches], check)
        finally:
            self._model.train(was_training)

    def _means(self, examples: list[Example], check: Callable[[], None]) -> Numbers:
        sums: dict[str, float] = {}
        for numbers in batches_in_order(Rows(examples, 0, 0), self._desk.size):
            check()
            batch = self._desk.layout.lay([examples[i] for i in numbers])
            with segments.cut(batch.cuts):
                made = self.loss(self._model, batch)
            mx.eval(made)
            for name, value in made.items():
                sums[name] = sums.get(name, 0.0) + float(value.item())  # type: ignore[arg-type]  # real
        count = max(1, sum(one.targets for one in examples))
        return {name: value / count for name, value in sums.items()}
