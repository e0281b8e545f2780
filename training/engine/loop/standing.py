"""How a training stands by its evaluations: the best one so far, and whether it is time to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from training.engine.errors import Diverged
from training.engine.loop.checkpoint import Position

Values = dict[str, float]


@dataclass(frozen=True, slots=True)
class Standing:
    """Reads evaluations and notes in a :class:`Position` what came of them.

    ``goal``: the value that counts, without ``val_``; of ``loss`` less is better, of all others more.
    ``patience``: evaluations without a better one until it is over; 0: never.
    """

    goal: str
    patience: int

    def of(self, values: Values, split: str = "val") -> float | None:
        """The value that counts; None where it is missing or no number."""
        value = values.get(f"{split}_{self.goal}")
        return value if value is not None and math.isfinite(value) else None

    def _is_better(self, value: float, best: float | None) -> bool:
        if best is None:
            return True
        return value < best if self.goal == "loss" else value > best

    def bad_evals(self, where: Position, values: Values) -> int:
        """Evaluations since the best one, this one with its ``values`` among them."""
        value = self.of(values)
        if value is None:
            return where.bad_evals
        return 0 if self._is_better(value, where.best_loss) else where.bad_evals + 1

    def remember(self, where: Position, values: Values) -> None:
        """Note an evaluation at ``where.step``."""
        value, test = self.of(values), self.of(values, "test")
        where.bad_evals = self.bad_evals(where, values)
        if where.step == 0:
            where.first_loss, where.first_test = value, test
        where.val_loss = value
        where.test_loss = test if test is not None else where.test_loss
        if value is not None and self._is_better(value, where.best_loss):
            where.best_loss, where.best_step = value, where.step

    def is_over(self, bad_evals: int) -> bool:
        """Whether patience has run out."""
        return 0 < self.patience <= bad_evals

    def why_over(self, where: Position) -> str:
        """A sentence for people, when it is."""
        moved = "fallen" if self.goal == "loss" else "risen"
        return (
            f"Stops early: the validation {self.goal} has not {moved} for {where.bad_evals} evaluations "
            f"(best {where.best_loss:.4f} at step {where.best_step})."
        )

    def result(self, where: Position) -> dict[str, Any]:
        """What the last word says of it."""
        return {
            "goal": self.goal,
            "best_step": where.best_step,
            f"best_val_{self.goal}": where.best_loss,
            f"first_val_{self.goal}": where.first_loss,
            f"val_{self.goal}": where.val_loss,
            f"first_test_{self.goal}": where.first_test,
            f"test_{self.goal}": where.test_loss,
        }


def refuse_broken(step: int, values: Values) -> None:
    """Raise Diverged when an evaluation found a value that is no number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise Diverged(
                "diverged.evaluation",
                f"At step {step} the {name} was {value:g}.",
                "Start again with a lower learning rate; at step 0, compute in float32.",
            )
