"""What every training method's settings tell the front office, beside their fields."""

from __future__ import annotations

from typing import ClassVar, Literal

from training.engine.catalog.rows import Settings

SUPERVISED = ("chat", "sharegpt", "alpaca", "completion", "text")
"""Formats of rows that show how to answer, or just text."""

Other = Literal["teacher", "reward_model"]


class MethodSettings(Settings):
    """Base of a method's settings."""

    reads: ClassVar[tuple[str, ...]] = SUPERVISED
    """Row formats that the method can train on."""
    parts: ClassVar[int] = 1
    """Sequences that a row becomes."""

    online: ClassVar[bool] = False
    """Whether it trains on what the model itself writes meanwhile."""

    @property
    def needs(self) -> tuple[Other, ...]:
        """Other models that must be given."""
        return ()

    @property
    def sequences(self) -> int:
        """Sequences that a row becomes with these settings."""
        return self.parts
