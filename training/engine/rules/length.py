"""Scores the number of tokens: the soft punishment of Yu et al. 2025 (DAPO, arXiv 2503.14476), shifted by one."""

from __future__ import annotations

from training.engine.catalog.rules import Length as Settings
from training.engine.rules.rule import Messages, Rule


class Length(Rule):
    """1 from ``at_least`` to ``at_most``; beyond, 1 − distance / (``soft`` + 1), at least 0."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def score(self, prompt: Messages, answer: str, reference: str | None, tokens: int) -> float:
        del prompt, answer, reference
        beyond = max(self.settings.at_least - tokens, tokens - self.settings.at_most, 0)
        return max(0.0, 1.0 - beyond / (self.settings.soft + 1))
