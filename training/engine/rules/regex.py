"""Scores by a regular expression, with a limit of time.

Some patterns need exponential time on some answers, and the standard library's ``re`` cannot be interrupted. The
package ``regex``, which the tokenizers' library brings along, reads the same patterns and has a time limit.
"""

from __future__ import annotations

import regex

from training.engine.catalog.rules import Regex as Settings
from training.engine.errors import ConfigError
from training.engine.rules.rule import Messages, Rule

SECONDS = 1.0
LONGEST = 100_000  # characters that are looked at


class Regex(Rule):
    """1 if the pattern is found within a second, else 0. Raises ConfigError ``rule.pattern``."""

    def __init__(self, settings: Settings) -> None:
        flags = regex.VERSION0 | (regex.IGNORECASE if settings.ignore_case else 0)
        try:
            pattern = regex.compile(settings.pattern, flags)
        except (regex.error, RecursionError) as error:
            raise ConfigError(
                "rule.pattern", f"The pattern '{settings.pattern[:80]}' cannot be used: {error}.", "Mend the pattern."
            ) from None
        self._look = pattern.fullmatch if settings.whole else pattern.search
        self.slow = 0

    def score(self, prompt: Messages, answer: str, reference: str | None, tokens: int) -> float:
        del prompt, reference, tokens
        try:
            return float(self._look(answer[:LONGEST], timeout=SECONDS) is not None)
        except TimeoutError:
            self.slow += 1
            return 0.0
