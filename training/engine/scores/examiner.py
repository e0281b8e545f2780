"""Scores by rules on the held-out rows, at each evaluation of a training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from mlx import nn

from training.engine.config.training import TrainConfig
from training.engine.errors import DataError
from training.engine.generation.generate import answers
from training.engine.generation.rollout import Rollout
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows import asked, masks
from training.engine.rows.asked import Asked
from training.engine.scores.rule_scores import Rules

ROOM = 8192  # tokens whose keys and values are held at once: a training has other uses for its memory
ROWS = 16  # answered at once


class Examiner:
    """Lets the model answer the same held-out prompts at every evaluation, greedily, and scores the answers."""

    def __init__(self, tokenizer: Tokenizer, rules: Rules, questions: list[Asked], max_tokens: int) -> None:
        self._tokenizer, self._rules, self._questions, self._max_tokens = tokenizer, rules, questions, max_tokens
        self._prompts = [masks.prompt(one.prompt, tokenizer) for one in questions]

    @classmethod
    def of(cls, config: TrainConfig, tokenizer: Tokenizer) -> Examiner:
        """The rules and rows that ``config`` asks for; nothing is answered without rules.

        Prompts longer than ``max_seq_length`` are left out. Raises DataError ``evaluation.no_prompts``,
        ``rule.no_reference``, ConfigError ``rule.…``.
        """
        if not config.eval_rules:
            return cls(tokenizer, Rules.of([]), [], 0)
        rules, path = Rules.of(config.eval_rules), config.data / "valid.jsonl"
        found = [one for one in _asked(path) if len(masks.prompt(one.prompt, tokenizer)) <= config.max_seq_length]
        most = min(config.eval_rows, len(found))
        chosen = [found[i * len(found) // most] for i in range(most)]
        if not chosen:
            raise DataError(
                "evaluation.no_prompts",
                "No held-out row asks anything within the sequence length, and rules score answers.",
                "Leave eval_rules empty, or import the data with a validation share.",
            )
        if rules.needs_reference and any(one.reference is None for one in chosen):
            raise DataError(
                "rule.no_reference",
                "A held-out row has no reference answer, and the rule exact_answer compares with one.",
                "Leave the rule out of eval_rules, or choose a data set with answers.",
            )
        return cls(tokenizer, rules, chosen, config.eval_tokens)

    def examine(self, model: nn.Module, check: Callable[[], None]) -> dict[str, float]:
        """``val_<rule>``: each rule's mean; ``val_rule_score``: that of their weighted sum. ``check`` may raise."""
        if not self._questions:
            return {}
        longest = max(map(len, self._prompts)) + self._max_tokens
        rollout = Rollout(model, self._tokenizer.eos_ids, rows=ROWS, tokens=max(ROOM, longest))
        made = answers(rollout, self._tokenizer, self._prompts, self._max_tokens, check=check)
        sums = dict.fromkeys(("rule_score", *self._rules.names), 0.0)
        for question, one in zip(self._questions, made, strict=True):
            check()
            total, values = self._rules.score(question.prompt, one.text, question.reference, one.tokens)
            for name, value in {"rule_score": total, **values}.items():
                sums[name] += value
        return {f"val_{name}": value / len(made) for name, value in sums.items()}


def perplexity(loss: float) -> float:
    """exp of a mean over tokens of −log p, kept below infinity."""
    return math.exp(min(loss, 700.0))


def _asked(path: Path) -> list[Asked]:
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        return [one for line in file if (one := asked.of(json.loads(line))) is not None]
