"""A reward model at work: one number for each answer to a prompt, higher is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from training.engine.errors import ModelError
from training.engine.models import scalar_heads
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows import layouts, masks, segments
from training.engine.rows.examples import Example
from training.engine.tuning.fuse import Placed

Answer = tuple[list[dict[str, Any]], str]
"""Chat messages and the text that answers them."""


class Scorer:
    """Scores answers with the head that the method ``reward_model`` has trained.

    ``rows``: sequences computed together. Raises ModelError ``reward_model.no_head``, ``model.no_hidden_states``.
    """

    def __init__(self, placed: Placed, tokenizer: Tokenizer, *, max_seq_length: int, rows: int, is_cpu: bool) -> None:
        weight = placed.extras.get(f"{scalar_heads.SCORE}.weight")
        if weight is None:
            raise ModelError(
                "reward_model.no_head",
                "The reward model has no head that makes a score.",
                "Choose a version that the method 'Reward model' has trained.",
            )
        self._model, self._tokenizer, self._length, self._rows = placed.loaded.model, tokenizer, max_seq_length, rows
        self._head = scalar_heads.put(self._model, scalar_heads.SCORE, weight)
        self._model.freeze()
        self._model.eval()
        self._layout, _ = layouts.choose(self._model, rows, None, is_cpu=is_cpu)

    def score(self, answers: Sequence[Answer]) -> list[float]:
        """Scores in the order of ``answers``, as in the reward model's training: of the last token of each.

        Answers are computed ``rows`` at a time in their own order, so the same list gives the same bits.
        """
        found: list[float] = []
        for start in range(0, len(answers), self._rows):
            part = [
                Example.single(masks.answer(prompt, text, self._tokenizer, self._length))
                for prompt, text in answers[start : start + self._rows]
            ]
            batch = self._layout.lay(part)
            with segments.cut(batch.cuts):
                scores = scalar_heads.of_ends(self._model, self._head, scalar_heads.SCORE, batch.ids, batch.ends)
                mx.eval(scores)
            found += [float(score) for score in np.array(scores)[: len(part)]]
        return found
