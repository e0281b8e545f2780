"""Learning-rate schedules: a factor on the learning rate for each optimizer update.

All of them warm up linearly inside the total: update s of a warm-up of W takes (s + 1) / (W + 1) of the
rate, so no update is wasted on a rate of zero and the full rate is reached once.
"""

from __future__ import annotations

import math
from typing import Literal

from training.engine.catalog.rows import Catalog, Row, Settings, setting

_END = "Share of the rate that the curve falls to. It gets there right after the last update, so that one still counts."


class Warmed(Settings):
    """What all schedules share: the linear warm-up."""

    warmup_steps: int | None = setting(
        None, "Warm-up steps", "Updates until the full rate is reached.", ge=0, le=10**7, unit="updates"
    )
    warmup_ratio: float = setting(
        0.03, "Warm-up share", "Share of all updates until the full rate, if no number of steps is given.", ge=0, le=0.5
    )

    def warmup(self, total: int) -> int:
        """Length of the warm-up in updates, at most ``total``."""
        steps = self.warmup_steps if self.warmup_steps is not None else round(self.warmup_ratio * total)
        return min(steps, total)

    def multiplier(self, step: int, total: int) -> float:
        """What update ``step`` (0 … ``total`` - 1) multiplies the learning rate by. Forms draw it; no arrays."""
        warmup = self.warmup(total)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return self._after(step - warmup, max(1, total - warmup))

    def _after(self, step: int, span: int) -> float:  # noqa: ARG002 - level, unless a schedule says otherwise
        """The factor ``step`` updates after the warm-up, which leaves ``span`` updates."""
        return 1.0


class Constant(Warmed):
    """The full rate after the warm-up."""

    name: Literal["constant"] = "constant"


class Linear(Warmed):
    """Falls in a straight line to ``end_ratio`` of the rate."""

    name: Literal["linear"] = "linear"
    end_ratio: float = setting(0.0, "End rate", _END, ge=0, le=1)

    def _after(self, step: int, span: int) -> float:
        return 1.0 - (1.0 - self.end_ratio) * min(1.0, step / span)


class Cosine(Warmed):
    """Falls along half a cosine to ``end_ratio`` of the rate (Loshchilov and Hutter 2017, arXiv 1608.03983)."""

    name: Literal["cosine"] = "cosine"
    end_ratio: float = setting(0.1, "End rate", _END, ge=0, le=1)

    def _after(self, step: int, span: int) -> float:
        return self.end_ratio + (1.0 - self.end_ratio) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / span)))


class Step(Warmed):
    """Multiplies the rate by ``factor`` every ``every`` updates after the warm-up."""

    name: Literal["step"] = "step"
    every: int = setting(100, "Every", "Updates between two drops of the rate.", ge=1, le=10**7, unit="updates")
    factor: float = setting(0.5, "Factor", "What the rate is multiplied by at each drop.", gt=0, le=1)

    def _after(self, step: int, span: int) -> float:  # noqa: ARG002 - its own unit of length
        return float(self.factor ** (step // self.every))


SCHEDULES = Catalog(
    "schedule",
    Row(Cosine, "Cosine", "Starts fast, ends gently. A good choice nearly always.", "training.engine.optim:curve"),
    Row(Linear, "Linear", "Falls in a straight line.", "training.engine.optim:curve"),
    Row(Constant, "Constant", "Stays at the full rate.", "training.engine.optim:curve"),
    Row(Step, "Step", "Drops by a factor at fixed intervals.", "training.engine.optim:curve"),
)
