"""Where the time of a round goes, by a clock that is set by hand."""

from __future__ import annotations

import pytest

from training.engine.learning.shares import Shares


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_left_of_a_round_is_learning() -> None:
    clock = Clock()
    shares = Shares(clock)
    assert shares.turn() == {}
    for name, seconds in (("generation", 2), ("scoring", 1), ("generation", 1)):
        with shares.span(name):
            clock.now += seconds
    with shares.span(), shares.span("generation"):  # what an evaluation generates counts nowhere
        clock.now += 100
    clock.now += 4
    expected = {"generation_share": 3 / 8, "scoring_share": 1 / 8, "learning_share": 4 / 8}
    assert shares.turn() == pytest.approx(expected)
    clock.now += 5
    assert shares.turn()["learning_share"] == 1
