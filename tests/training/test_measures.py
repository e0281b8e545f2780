"""Names and directions of figures."""

from __future__ import annotations

from training import measures
from training.engine.catalog.rules import RULES


def test_every_rule_is_a_measure() -> None:
    assert all(measures.of(row.name).label == row.label for row in RULES)


def test_a_second_rule_of_a_kind_has_a_number() -> None:
    assert measures.of("regex_2").label == "Regular expression 2"
    assert measures.of("strange_2").label == "strange 2"


def test_figures_stand_in_one_order() -> None:
    values = {"peak_memory_gb": 1.0, "regex_2": 0.5, "loss": 2.0, "regex": 0.1, "unheard": 3.0}
    assert [m.name for m, _ in measures.shown(values)] == ["loss", "regex", "regex_2", "peak_memory_gb", "unheard"]


def test_the_best_loss_is_the_lowest_and_the_best_reward_the_highest() -> None:
    assert measures.of("loss").best([2.0, 1.0]) == 1.0
    assert measures.of("reward").best([2.0, 1.0]) == 2.0
