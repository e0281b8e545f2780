"""The bench of the methods: its rows are allowed, its figures count what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import methods, ours, rounds
from tests.bench.rows import METHOD_ROWS, Row
from tests.bench.run import Run, Step
from tests.bench.work import Work
from training.engine.config.training import TrainConfig, check

WORK = Work("model", "data", rows=8, batch_size=4, epochs=2)
STEPS = [Step(2.0, 100, 0.5), Step(2.0, 100, 1.0), Step(1.0, 100, 1.5), Step(1.0, 100, 2.0)]


@pytest.mark.parametrize("row", [row for row in METHOD_ROWS if row.trainer == "ours"], ids=lambda row: row.name)
def test_every_row_of_ours_is_an_allowed_training(row: Row) -> None:
    assert check(TrainConfig, ours.config(replace(WORK, **row.work), row.settings)).method.name == row.name


def test_a_reference_counts_in_its_epoch() -> None:
    run = Run("dpo", 1, STEPS, before_s=4.0)
    assert (run.step_s(), run.step_s(1), run.whole_rate(), run.whole_rate(1), run.tokens) == (
        1.5,
        1.0,
        40.0,
        200 / 6,
        400,
    )
    assert Run("dpo").step_s() is None and Run("dpo").whole_rate() is None


def test_the_page_tells_ratios_and_shares() -> None:
    shares = {"generation": 0.6, "scoring": 0.1, "learning": 0.3}
    runs = [
        Run("lora-dpo", 1, [replace(step, seconds=4 * step.seconds) for step in STEPS], device_gib=8.0),
        Run("dpo", 1, STEPS, before_s=4.0, device_gib=2.0),
        Run("sft", 1, STEPS),
        Run("distillation", 1, [replace(step, seconds=1.2 * step.seconds) for step in STEPS]),
        Run("grpo", 1, STEPS, shares=shares),
    ]
    text = methods.report(runs, WORK, "make bench-methods")
    assert "| ours, DPO | 1.00 s | 100 | 4.00 × | 4.00 s | 1.33 × | 2.00 GiB | 0.25 × |" in text
    assert "takes 1.20 × one of SFT" in text
    assert "| ours, GRPO, 4 prompts with 4 answers, 1 pass | 60 % | 10 % | 30 % | 1.50 s |" in text


def test_trainers_of_other_tokens_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"dpo": Run("dpo", 1, STEPS), "orpo": Run("orpo", 1, STEPS[:3])}
    monkeypatch.setattr(rounds, "one", lambda row, *_: made[row.name])
    rows = tuple(row for row in METHOD_ROWS if row.name in made)
    played = rounds.play(
        rows, {"pairs": WORK}, 1, folder=tmp_path, results=tmp_path / "r.jsonl", environments={"blas": {}}
    )
    with pytest.raises(AssertionError, match="orpo trained other tokens: 300"):
        list(played)
