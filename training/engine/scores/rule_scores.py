"""Scores answers by rules: the reward of PPO and GRPO where there is no reward model, and a measure of evaluations.

    rules = Rules.of(settings)                       # rows of catalog/rules.py, checked
    total, values = rules.score(messages, "… #### 42", "42", tokens=17)

``values`` has each rule's own value by its name (a second regex is ``regex_2``), ``total`` is Σ weight · value.
"""

from __future__ import annotations

from collections.abc import Sequence

from training.engine.catalog.rules import RULES, RuleSettings, names_of
from training.engine.rules.rule import Messages, Rule


class Rules:
    """Several rules together."""

    def __init__(self, rules: Sequence[tuple[str, float, Rule]], *, needs_reference: bool) -> None:
        """``rules``: name, weight and rule."""
        self._rules = list(rules)
        self.needs_reference = needs_reference
        """Whether one of them compares with a reference answer."""

    @classmethod
    def of(cls, settings: Sequence[RuleSettings]) -> Rules:
        """The rules that ``settings`` ask for. Raises ConfigError ``rule.…`` for what only the engine can see."""
        made = [
            (name, one.weight, RULES[one.name].load()(one))
            for name, one in zip(names_of(settings), settings, strict=True)
        ]
        return cls(made, needs_reference=any(one.needs_reference for one in settings))

    @property
    def names(self) -> list[str]:
        """The keys of what :meth:`score` returns."""
        return [name for name, _, _ in self._rules]

    @property
    def slow(self) -> dict[str, int]:
        """How many answers so far took a rule too long and were scored 0."""
        return {name: rule.slow for name, _, rule in self._rules if rule.slow}

    def score(
        self, prompt: Messages, answer: str, reference: str | None, tokens: int
    ) -> tuple[float, dict[str, float]]:
        """The weighted sum, and each rule's value, of an ``answer`` of ``tokens`` tokens to the chat ``prompt``.

        Raises DataError ``rule.no_reference``, ``rule.function_failed``, ``rule.no_number``.
        """
        values = {name: rule.score(prompt, answer, reference, tokens) for name, _, rule in self._rules}
        return sum(weight * values[name] for name, weight, _ in self._rules), values
