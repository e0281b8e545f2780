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


class CosineWithRestarts(Warmed):
    """Falls along a cosine again and again, each time from the full rate (Loshchilov and Hutter 2017).

    As transformers' schedule of the same name, with an end rate.
    """

    name: Literal["cosine_with_restarts"] = "cosine_with_restarts"
    cycles: int = setting(2, "Cycles", "How often it falls; all cycles are equally long.", ge=1, le=10_000)
    end_ratio: float = setting(0.0, "End rate", "Share of the rate that each cycle falls to.", ge=0, le=1)

    def _after(self, step: int, span: int) -> float:
        done = min(1.0, step / span)
        place = (self.cycles * done) % 1.0 if done < 1 else 1.0
        return self.end_ratio + (1.0 - self.end_ratio) * 0.5 * (1.0 + math.cos(math.pi * place))


class Polynomial(Warmed):
    """Falls as a power of the share that is left. As transformers' polynomial decay."""

    name: Literal["polynomial"] = "polynomial"
    power: float = setting(2.0, "Power", "1 is a straight line; more falls faster at first.", gt=0, le=20)
    end_ratio: float = setting(0.0, "End rate", _END, ge=0, le=1)

    def _after(self, step: int, span: int) -> float:
        return self.end_ratio + (1.0 - self.end_ratio) * float((1.0 - min(1.0, step / span)) ** self.power)


class InverseSqrt(Warmed):
    """Falls as 1 / sqrt(update), never to zero, whatever the length (Vaswani et al. 2017, arXiv 1706.03762).

    As transformers': after s updates it is sqrt(T / (s + T)), T the time scale.
    """

    name: Literal["inverse_sqrt"] = "inverse_sqrt"
    timescale: int | None = setting(
        None,
        "Time scale",
        "After three times so many updates half of the rate is left. The warm-up's length if empty, or 10,000.",
        ge=1,
        le=10**9,
        unit="updates",
    )
    end_ratio: float = setting(0.0, "Least rate", "Share of the rate that it never falls below.", ge=0, le=1)

    def multiplier(self, step: int, total: int) -> float:
        """As every schedule's; it alone has to know how long the warm-up was."""
        warmup = self.warmup(total)
        if step < warmup:
            return super().multiplier(step, total)
        scale = self.timescale or warmup or 10_000
        return max(self.end_ratio, math.sqrt(scale / (step - warmup + scale)))


class Exponential(Warmed):
    """Loses the same share at every update. As torch's ExponentialLR where gamma is given."""

    name: Literal["exponential"] = "exponential"
    gamma: float | None = setting(
        None, "Gamma", "Factor at each update; if empty, the one that leads to the end rate.", gt=0, le=1
    )
    end_ratio: float = setting(0.01, "End rate", "Share of the rate that it falls to and not below.", gt=0, le=1)

    def _after(self, step: int, span: int) -> float:
        if self.gamma is None:
            return float(self.end_ratio ** min(1.0, step / span))
        return max(self.end_ratio, float(self.gamma**step))


class Wsd(Warmed):
    """Warm-up, stable, decay: the full rate until the last part (Hu et al. 2024, arXiv 2404.06395).

    As transformers' get_wsd_schedule. A stopped training can be decayed later, from any checkpoint.
    """

    name: Literal["wsd"] = "wsd"
    decay_ratio: float = setting(0.1, "Decay share", "Share of all updates in which the rate falls.", gt=0, le=1)
    decay_type: Literal["1-sqrt", "linear", "cosine"] = setting(
        "1-sqrt", "Shape of the decay", "1-sqrt falls fast at first; best in Hägele et al. 2024 (arXiv 2405.18392)."
    )
    end_ratio: float = setting(0.0, "End rate", _END, ge=0, le=1)

    def multiplier(self, step: int, total: int) -> float:
        """As every schedule's; the decay's length is a share of all updates."""
        span = total - self.warmup(total)
        decay = min(max(1, round(self.decay_ratio * total)), span)
        if step < total - decay:
            return super().multiplier(step, total)
        done = min(1.0, (step - total + decay) / max(1, decay))
        left = {"linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done)), "1-sqrt": 1.0 - math.sqrt(done)}
        return self.end_ratio + (1.0 - self.end_ratio) * left[self.decay_type]


class OneCycle(Warmed):
    """Rises along half a cosine, then falls along half a cosine (Smith and Topin 2018, arXiv 1708.07120).

    As torch's OneCycleLR with two phases, and without its cycle of the momentum. Its warm-up is the rise: of W
    updates the last one has the full rate.
    """

    name: Literal["one_cycle"] = "one_cycle"
    warmup_ratio: float = setting(0.3, "Rising share", "Share of all updates in which the rate rises.", ge=0, le=1)
    div_factor: float = setting(25.0, "First divisor", "The first update has the rate divided by it.", ge=1, le=1e6)
    final_div_factor: float = setting(
        1e4, "Last divisor", "The last update has the first one's rate divided by it.", ge=1, le=1e9
    )

    def multiplier(self, step: int, total: int) -> float:
        """As every schedule's, without the straight warm-up."""
        rising = self.warmup_steps if self.warmup_steps is not None else self.warmup_ratio * total
        top, last, first = min(rising, total) - 1, total - 1, 1 / self.div_factor
        if step <= top:
            return _halfway(first, 1.0, step / top if top > 0 else 1.0)
        return _halfway(1.0, first / self.final_div_factor, min(1.0, (step - max(top, 0)) / max(1, last - max(top, 0))))


def _halfway(start: float, end: float, done: float) -> float:
    """From ``start`` to ``end`` along half a cosine."""
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * done))


_CURVE = "training.engine.optimizers.factory:curve"
SCHEDULES = Catalog(
    "schedule",
    Row(Cosine, "Cosine", "Starts fast, ends gently. A good choice nearly always.", _CURVE),
    Row(Linear, "Linear", "Falls in a straight line.", _CURVE),
    Row(Constant, "Constant", "Stays at the full rate.", _CURVE),
    Row(Wsd, "Warm-up, stable, decay", "Full rate, then a short fall; easy to train on from.", _CURVE),
    Row(CosineWithRestarts, "Cosine with restarts", "Several cosines in a row.", _CURVE),
    Row(OneCycle, "One cycle", "Rises for a third, then falls nearly to zero. For high rates.", _CURVE),
    Row(Polynomial, "Polynomial", "Falls as a power of what is left.", _CURVE),
    Row(InverseSqrt, "Inverse square root", "Falls ever more slowly; for trainings without a set length.", _CURVE),
    Row(Exponential, "Exponential", "Loses the same share at every update.", _CURVE),
    Row(Step, "Step", "Drops by a factor at fixed intervals.", _CURVE),
)
