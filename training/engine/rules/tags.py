"""Scores the form of an answer: parts in tags, as in DeepSeek-R1 (arXiv 2501.12948, section 2.2.2)."""

from __future__ import annotations

from training.engine.catalog.rules import Tags as Settings
from training.engine.rules.rule import Messages, Rule


class Tags(Rule):
    """1 if each tag is opened and closed once, in order, with something in it, and other text is where it may be.

    Found by plain search, so the time is linear in the answer.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def score(self, prompt: Messages, answer: str, reference: str | None, tokens: int) -> float:
        del prompt, reference, tokens
        rest = answer
        for tag in self.settings.tags:
            opening, closing = f"<{tag}>", f"</{tag}>"
            if answer.count(opening) != 1 or answer.count(closing) != 1:
                return 0.0
            before, found, rest = rest.partition(opening)
            inside, closed, rest = rest.partition(closing)
            misplaced = before.strip() and self.settings.outside != "any"
            if not found or not closed or not inside.strip() or misplaced:
                return 0.0
        return 0.0 if rest.strip() and self.settings.outside == "none" else 1.0
