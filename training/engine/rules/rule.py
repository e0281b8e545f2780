"""What is asked of a rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

Messages = list[dict[str, Any]]


class Rule(ABC):
    """Scores answers."""

    slow: int = 0
    """Answers that took too long to look at, and were scored as wrong."""

    @abstractmethod
    def score(self, prompt: Messages, answer: str, reference: str | None, tokens: int) -> float:
        """The answer's value."""
