"""What every training method's settings tell the front office, beside their fields."""

from __future__ import annotations

from typing import ClassVar, Literal

from training.engine.catalog.rows import Settings

SUPERVISED = ("chat", "sharegpt", "alpaca", "completion", "text")
"""Formats of rows that show how to answer, or just text."""

Other = Literal["teacher", "reward_model"]

Group = Literal["Supervised", "Distillation", "Preference", "Reward", "Reinforcement"]
"""Families of methods, in the order in which a form shows them."""


class MethodSettings(Settings):
    """Base of a method's settings."""

    reads: ClassVar[tuple[str, ...]] = SUPERVISED
    """Row formats that the method can train on."""
    parts: ClassVar[int] = 1
    """Sequences that a row becomes."""
    group: ClassVar[Group] = "Supervised"
    """The family that the method is shown with."""
    takes: ClassVar[tuple[Other, ...]] = ()
    """Other models that can be given; :attr:`needs` are those that must be, with these settings."""

    online: ClassVar[bool] = False
    """Whether it trains on what the model itself writes meanwhile."""

    goal: ClassVar[str] = "loss"
    """The held-out value by which its trainings are judged; of ``loss`` less is better, of all others more."""

    @property
    def needs(self) -> tuple[Other, ...]:
        """Other models that must be given."""
        return ()

    @property
    def holds(self) -> tuple[Other, ...]:
        """Other models that stay in memory for the whole training."""
        return self.needs

    @property
    def sequences(self) -> int:
        """Sequences that a row becomes with these settings."""
        return self.parts
