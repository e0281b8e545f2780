"""Counts of pairs, judged answers and prompts."""

from __future__ import annotations

from typing import Any

import pytest

from training.engine.data.tally import Tally, characters

Q = [{"role": "user", "content": "four"}]


def counted(*rows: dict[str, Any]) -> dict[str, Any]:
    tally = Tally()
    for row in rows:
        tally.add(row)
    return tally.as_dict()


def test_pairs_with_and_without_a_margin() -> None:
    rated = {"prompt": Q, "chosen": "long", "rejected": "b", "margin": 3.0}
    found = counted(rated, {**rated, "margin": 0.0}, {"prompt": Q, "chosen": "a", "rejected": "longer"})
    assert found == {"pairs": 3, "rated": 2, "mean_margin": 1.5, "chosen_longer": 0.6667}


def test_pairs_without_any_margin() -> None:
    assert counted({"prompt": Q, "chosen": "a", "rejected": "b"})["mean_margin"] is None


def test_labels() -> None:
    rows = [{"prompt": Q, "completion": "a", "label": label} for label in (True, False, False, False)]
    assert counted(*rows) == {"judged": 4, "good_share": 0.25}


def test_prompts() -> None:
    assert counted({"prompt": Q}, {"prompt": Q, "answer": "a"}) == {"prompts": 2, "answered": 1}


@pytest.mark.parametrize("row", [{"messages": Q}, {"prompt": "q", "completion": "a"}, {"text": "t"}])
def test_rows_to_be_imitated_have_nothing_to_count(row: dict[str, Any]) -> None:
    assert counted(row) == {}


@pytest.mark.parametrize(
    ("row", "length"),
    [
        ({"messages": [*Q, *Q]}, 8),
        ({"prompt": "ab", "completion": "c"}, 3),
        ({"text": "abc"}, 3),
        ({"prompt": Q, "chosen": "abc", "rejected": "de", "margin": 2.0}, 9),
        ({"prompt": Q, "completion": "abc", "label": True}, 7),
        ({"prompt": Q}, 4),
    ],
)
def test_characters_of_every_normal_form(row: dict[str, Any], length: int) -> None:
    assert characters(row) == length
