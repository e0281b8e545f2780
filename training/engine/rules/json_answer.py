"""Scores an answer that shall be JSON."""

from __future__ import annotations

import json

from training.engine import json_schema
from training.engine.catalog.rules import JsonSchema as Settings
from training.engine.rules.rule import Messages, Rule

LONGEST = 200_000  # characters
_FENCE = "```"


class JsonAnswer(Rule):
    """1 if the answer, or what the first fence in it holds, is JSON and fits the schema."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def score(self, prompt: Messages, answer: str, reference: str | None, tokens: int) -> float:
        del prompt, reference, tokens
        text = self._inside(answer) if self.settings.fenced else answer
        if len(text) > LONGEST:
            return 0.0
        try:
            value = json.loads(text, parse_constant=_refused)
            return float(json_schema.fits(value, self.settings.definition))
        except (ValueError, RecursionError):
            return 0.0

    @staticmethod
    def _inside(answer: str) -> str:
        before, fence, rest = answer.partition(_FENCE)
        if not fence:
            return before
        _language, _, rest = rest.partition("\n")
        return rest.partition(_FENCE)[0]


def _refused(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
