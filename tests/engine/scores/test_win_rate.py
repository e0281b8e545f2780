"""Win rates by hand."""

from __future__ import annotations

import numpy as np

from training.engine.scores import win_rate


def test_a_tie_counts_half() -> None:
    assert win_rate.of([1, 0, 2, 3], [0, 1, 2, 2], seed=1).share == (1 + 0 + 0.5 + 1) / 4


def test_the_interval_holds_the_share_and_is_the_normal_one_for_many() -> None:
    random = np.random.default_rng(0)
    mine, theirs = random.normal(0.3, 1, 2000), random.normal(0, 1, 2000)
    found = win_rate.of(list(mine), list(theirs), seed=1)
    half = 1.96 * np.sqrt(found.share * (1 - found.share) / 2000)
    assert abs(found.low - (found.share - half)) < 0.004 and abs(found.high - (found.share + half)) < 0.004


def test_the_same_seed_gives_the_same_interval() -> None:
    mine, theirs = [1.0, 2.0, 3.0, 0.0], [0.0, 2.0, 4.0, -1.0]
    assert win_rate.of(mine, theirs, seed=3) == win_rate.of(mine, theirs, seed=3)


def test_all_won_is_sure() -> None:
    assert win_rate.of([1, 2], [0, 0], seed=0) == win_rate.WinRate(1.0, 1.0, 1.0)
