"""The learning rate over the updates of a training, as numbers and as a drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.engine.config.training import TrainSettings

POINTS = 240
WIDTH, HEIGHT = 640, 220  # view box of the drawing
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 10, 22


@dataclass(frozen=True, slots=True)
class Curve:
    """A schedule's curve: at optimizer update ``step`` (0 … ``total`` - 1) the rate is ``rate``."""

    steps: tuple[int, ...]
    multipliers: tuple[float, ...]
    learning_rate: float
    total: int

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rate at each of the steps."""
        return tuple(self.learning_rate * value for value in self.multipliers)

    @property
    def highest(self) -> float:
        """The greatest rate."""
        return max(self.rates, default=0.0)

    @property
    def peak(self) -> int:
        """The first update with the greatest rate."""
        return self.steps[self.multipliers.index(max(self.multipliers))] if self.steps else 0

    @property
    def last(self) -> float:
        """The rate of the last update."""
        return self.rates[-1] if self.steps else 0.0

    def points(self, width: float = WIDTH, height: float = HEIGHT, pad: tuple[float, ...] = ()) -> str:
        """The curve as points of an SVG polyline."""
        left, right, top, bottom = pad or (LEFT, RIGHT, TOP, BOTTOM)
        most, last = self.highest or 1.0, max(1, self.total - 1)
        across, down = width - left - right, height - top - bottom
        return " ".join(
            f"{left + across * step / last:.1f},{top + down * (1 - rate / most):.1f}"
            for step, rate in zip(self.steps, self.rates, strict=True)
        )

    @property
    def drawn(self) -> str:
        """The points in the large drawing."""
        return self.points()

    @property
    def spark(self) -> str:
        """The points in a small drawing of 120 by 32."""
        return self.points(120, 32, (1, 1, 2, 2))

    @property
    def table(self) -> list[tuple[int, float]]:
        """About eleven updates and their rates, for those who read rather than look."""
        every = max(1, len(self.steps) // 10)
        rows = list(zip(self.steps, self.rates, strict=True))
        return rows[::every] if (len(rows) - 1) % every == 0 else [*rows[::every], rows[-1]]


def curve(settings: TrainSettings, total: int, most: int = POINTS) -> Curve:
    """The curve of ``settings`` over ``total`` updates, at most about ``most`` points, first and last among them."""
    schedule: Any = settings.lr_schedule  # one of the catalog's; all of them have a multiplier
    every = max(1, total // most)
    steps = tuple(sorted({*range(0, total, every), total - 1}))
    return Curve(steps, tuple(schedule.multiplier(step, total) for step in steps), settings.learning_rate, total)
