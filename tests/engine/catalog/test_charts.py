"""Every curve of every method has words, and every method's page has the charts that it fills."""

from __future__ import annotations

import pytest

from training.engine.catalog.charts import CHARTS, QUANTITIES, drawn, label, quantity, split
from training.engine.catalog.methods import METHODS
from training.engine.learning.shares import SPANS

ROWS = list(METHODS)
#: What trainer.py reports of every method.
ALWAYS = ("train_loss", "learning_rate", "grad_norm", "tokens_per_second", "step_seconds", "trained_tokens", "epoch",
          "memory_gb", "peak_memory_gb")  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_term_of_a_method_has_a_label_and_a_sentence(row) -> None:
    for name in row.load().terms:
        assert name in QUANTITIES, name
        assert QUANTITIES[name].help.endswith(".")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_term_of_a_method_is_in_one_of_its_charts(row) -> None:
    charts = drawn(row.name, row.settings.goal, ())
    shown = {split(metric)[1] for chart in charts for metric in chart.metrics}
    assert set(row.load().terms) <= shown


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_methods_goal_is_the_engines(row) -> None:
    assert row.settings.goal == row.load().goal
    assert split(drawn(row.name, row.settings.goal, ())[0].best)[1] == row.settings.goal


@pytest.mark.parametrize("name", [*ALWAYS, *(f"{span}_share" for span in SPANS)])
def test_what_every_training_reports_has_words(name: str) -> None:
    assert split(name)[1] in QUANTITIES


def test_all_quantities_of_charts_exist_and_have_words() -> None:
    assert {name for chart in CHARTS for name in chart.quantities} <= set(QUANTITIES.names)
    assert [one.name for one in (*QUANTITIES, *CHARTS) if not one.help.endswith(".")] == []


def test_methods_named_by_charts_exist() -> None:
    groups = {row.settings.group for row in ROWS}
    assert {name for chart in CHARTS for name in chart.methods} <= groups | set(METHODS.names)


def test_a_rule_is_called_by_its_label_and_number() -> None:
    assert label("reward_regex_2") == f"{quantity('regex').label} 2"
    assert quantity("val_rule_score").better == "more"
    assert label("something_old") == "something old"


def test_only_what_has_points_is_drawn_once_there_are_any() -> None:
    present = ("train_loss", "val_loss", "train_reward_margin")
    metrics = {chart.chart.name: chart.metrics for chart in drawn("dpo", "loss", present)}
    assert metrics["margin"] == ("train_reward_margin",)
    assert metrics["loss"] == ("train_loss", "val_loss")
    assert "reward" not in metrics


def test_scores_of_rules_are_drawn_for_every_method_that_has_them() -> None:
    charts = drawn("sft", "loss", ("train_loss", "val_regex", "val_rule_score"))
    (rules,) = [chart for chart in charts if chart.chart.name == "rules"]
    assert rules.metrics == ("val_regex", "val_rule_score")


def test_the_reward_is_marked_where_it_is_greatest() -> None:
    first = drawn("ppo", "reward", ("reward", "val_reward", "train_loss"))[0]
    assert (first.metrics, first.best, first.better) == (("reward", "val_reward"), "val_reward", "more")
    assert first.names == ("Training", "Held out")
