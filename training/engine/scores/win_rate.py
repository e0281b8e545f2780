"""How often one model's answers are better than another's, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class WinRate:
    """Share of the prompts that are won, a tie counting half, and its 95 % interval."""

    share: float
    low: float
    high: float


def of(mine: Sequence[float], theirs: Sequence[float], seed: int) -> WinRate:
    """Scores (n,) of two models' answers to the same n ≥ 1 prompts, higher is better.

    The interval is the percentile bootstrap over prompts (Efron 1979), 2000 resamples; the same seed gives the
    same interval.
    """
    one, other = np.asarray(mine, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    wins = (one > other) + 0.5 * (one == other)
    random = np.random.Generator(np.random.PCG64(seed))
    # One resample after the other: all of them at once would be resamples × prompts numbers.
    shares = [float(np.mean(wins[random.integers(0, len(wins), len(wins))])) for _ in range(RESAMPLES)]
    low, high = np.quantile(shares, (0.025, 0.975))
    return WinRate(float(np.mean(wins)), float(low), float(high))
