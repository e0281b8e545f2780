"""What one data row trains: its sequences of tokens, and what else is known of it.

Supervised fine-tuning makes one sequence of a row; a preference makes two, the chosen answer and the
rejected one. Whatever is computed once about a row before the training, such as a reference model's
log-probabilities, travels with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from training.engine.rows.masks import Encoded

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """One row. All examples of a training have equally many parts, and the same names of numbers and arrays."""

    parts: tuple[Encoded, ...]
    numbers: dict[str, float] = field(default_factory=dict)
    """What holds for the row: a margin, a label."""
    arrays: dict[str, Array] = field(default_factory=dict)
    """What holds for a target, (targets of all parts in their order, …)."""
    row: dict[str, Any] | None = None
    """The data row itself, for methods that look at it again: a reference answer to compare with."""

    @classmethod
    def single(cls, part: Encoded) -> Example:
        """The example of one sequence."""
        return cls((part,))

    @property
    def length(self) -> int:
        """Tokens of all parts together."""
        return sum(len(part.ids) for part in self.parts)

    @property
    def targets(self) -> int:
        """Trained tokens; the first of a sequence is never one."""
        return sum(sum(part.trained[1:]) for part in self.parts)

    @property
    def cut(self) -> int:
        """Tokens that were left off."""
        return sum(part.cut for part in self.parts)

    @property
    def teaches(self) -> bool:
        """Whether every part has something to train."""
        return all(any(part.trained[1:]) for part in self.parts)

    def shortened(self, length: int) -> Example:
        """With parts of at most ``length`` tokens, and without arrays, which would not fit any more."""
        parts = tuple(Encoded(part.ids[:length], part.trained[:length], part.cut) for part in self.parts)
        return replace(self, parts=parts, arrays={})

    def noted(self, numbers: dict[str, float], arrays: dict[str, Array]) -> Example:
        """With more known about it."""
        return replace(self, numbers={**self.numbers, **numbers}, arrays={**self.arrays, **arrays})
