"""What an answer is worth: the weighted sum of rules and of a reward model's score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from training.engine.catalog.policy_methods import PolicySettings
from training.engine.errors import DataError
from training.engine.generation.answering import Answer, asked_by
from training.engine.learning.notes import Desk
from training.engine.losses.advantages import Floats
from training.engine.models.tokenizer import load as load_tokenizer
from training.engine.report import Reporter
from training.engine.rows.batches import ByRows, Rows
from training.engine.scores.rule_scores import Rules
from training.engine.scores.scorer import Scorer

REWARD_MODEL = "reward_model"


@dataclass(frozen=True, slots=True)
class Rewarded:
    """``total`` (answers,) is the reward; ``parts`` are what it is made of, unweighted, by name."""

    total: Floats
    parts: dict[str, Floats]

    def means(self) -> dict[str, float]:
        """The mean of each part: ``reward_<rule>``, ``reward_model``."""
        return {name: float(values.mean()) for name, values in self.parts.items()}


class Rewards:
    """Gives rewards; holds the reward model, if there is one."""

    def __init__(self, rules: Rules, scorer: Scorer | None, weight: float, rows: int, say: Reporter) -> None:
        """``weight``: of the scorer. ``rows``: answers that it scores at once."""
        self._rules, self._scorer, self._weight, self._rows, self._say = rules, scorer, weight, rows, say
        self._slow: dict[str, int] = {}

    @classmethod
    def of(cls, settings: PolicySettings, desk: Desk) -> Rewards:
        """As ``settings`` ask. Raises ConfigError ``rule.…``, ``reward_model.missing``, ModelError."""
        rows, scorer = desk.size.count if isinstance(desk.size, ByRows) else 1, None
        if settings.reward_model_weight:
            placed = desk.lender.lend("reward_model")
            scorer = Scorer(
                placed,
                load_tokenizer(desk.lender.place("reward_model").model),
                max_seq_length=desk.max_seq_length + settings.max_completion_length,
                rows=rows,
                is_cpu=mx.default_device().type == mx.DeviceType.cpu,
            )
        return cls(Rules.of(settings.rewards), scorer, settings.reward_model_weight, rows, desk.say)

    def refuse_unanswered(self, splits: dict[str, Rows]) -> None:
        """Raise DataError ``rule.no_reference`` where a rule has nothing to compare with."""
        if not self._rules.needs_reference:
            return
        for name, rows in splits.items():
            for n, row in enumerate(rows.rows, 1):
                if asked_by(row).reference is None:
                    raise DataError(
                        "rule.no_reference",
                        f"Prompt {n} of {name}.jsonl has no reference answer, and a rule compares with one.",
                        "Leave the rule exact_answer out, or choose a data set with answers.",
                    )

    def give(self, answers: Sequence[Answer], check: Callable[[], None]) -> Rewarded:
        """The reward of each of ``answers``. ``check`` is called now and then and may raise."""
        total = np.zeros(len(answers))
        parts: dict[str, list[float]] = {}
        for i, one in enumerate(answers):
            check()
            total[i], values = self._rules.score(one.asked.prompt, one.text, one.asked.reference, one.tokens)
            for name, value in values.items():
                parts.setdefault(f"reward_{name}", []).append(value)
        if self._scorer is not None:
            scores: list[float] = []
            for start in range(0, len(answers), self._rows):
                check()
                part = answers[start : start + self._rows]
                scores += self._scorer.score([(one.asked.prompt, one.text) for one in part])
            parts[REWARD_MODEL] = scores
            total += self._weight * np.array(scores)
        self._tell_slow()
        return Rewarded(total.astype(np.float32), {k: np.array(v, dtype=np.float32) for k, v in parts.items()})

    def _tell_slow(self) -> None:
        for name, count in self._rules.slow.items():
            if more := count - self._slow.get(name, 0):
                self._say.log(
                    f"{more} answers took the rule {name} longer than its time limit; they count 0.", "warning"
                )
        self._slow = self._rules.slow
