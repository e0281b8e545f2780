"""The showcase's page, and what makes it fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.showcase.cases import BASE, CASES, config, select
from tests.showcase.page import Shown, markdown, sparkline
from training.engine.config.training import TrainSettings, check

DPO = next(case for case in CASES if case.name == "dpo")
GOOD = Shown(DPO, 16, {"val_reward_margin": 0.0}, {"val_reward_margin": 0.4}, 60.0, 90.0, 1.5, [1.0, 2.0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_is_an_allowed_training(case) -> None:
    settings = check(TrainSettings, config(case, steps=4))
    assert set(settings.method.needs) == set(case.others)
    assert case.form in settings.method.reads
    names = [BASE, "student", *(one.name for one in CASES[: CASES.index(case)])]
    assert {case.start, *case.others.values()} <= set(names)


def test_a_value_that_goes_the_wrong_way_is_a_problem() -> None:
    assert GOOD.problem == ""
    assert "went the wrong way, 0.0000 → -0.1000" in replace(GOOD, after={"val_reward_margin": -0.1}).problem
    assert "went the wrong way" in replace(GOOD, after={"val_reward_margin": float("nan")}).problem
    assert "there is no val_reward_margin" in replace(GOOD, after={}).problem


def test_a_case_brings_what_it_needs() -> None:
    assert [case.name for case in select("ppo")] == ["sft", "reward_model", "ppo"]
    with pytest.raises(SystemExit, match="no case magic"):
        select("magic")


def test_curves_in_text() -> None:
    assert sparkline([0, 1, 2, 7]) == "▁▂▃█"
    assert len(sparkline([float(i) for i in range(100)])) == 24
    assert (sparkline([]), sparkline([3.0])) == ("", "▁")


def test_the_page_says_how_it_was_made() -> None:
    shares = {"generation": 0.5, "scoring": 0.1, "learning": 0.4}
    text = markdown([GOOD, replace(GOOD, shares=shares)], "make showcase")
    assert (
        "| DPO | preference | 16 | `val_reward_margin` 0 → **0.4** | `train_loss` ▁█ | 90.0 | 1.50 GiB | 60 s |" in text
    )
    assert "| DPO | 50 % | 10 % | 40 % |" in text and "`make showcase`" in text and "mlx-lm" in text
