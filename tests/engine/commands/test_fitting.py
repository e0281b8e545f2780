"""The questions ``fit`` and ``machine``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine import method_data, runs
from training.engine.commands import fitting
from training.engine.commands.memory_question import lengths_of, longest_rows
from training.engine.config.imports import FitConfig, MachineConfig
from training.engine.config.training import TrainConfig, check
from training.engine.errors import ConfigError
from training.engine.machine import device
from training.engine.report import Silent


def tried(*configs: dict[str, Any]) -> list[dict[str, Any]]:
    return fitting.run(FitConfig(trainings=list(configs)), Silent())["tried"]


def test_it_stops_at_the_first_that_fits(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [runs.request(tiny_llama, runs.data(tmp_path / "data"), batch_size=size) for size in (8, 4, 2, 1)]
    totals = [one["total"] for one in (tried(config)[0] for config in asked)]
    assert sorted(totals, reverse=True) == totals
    monkeypatch.setattr(device, "limit", lambda machine: totals[2])
    assert [one["fits"] for one in tried(*asked)] == [False, False, True]
    monkeypatch.setattr(device, "limit", lambda machine: 0)
    assert [one["fits"] for one in tried(*asked)] == [False] * 4


def test_a_wrong_training_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        tried(runs.request(tiny_llama, runs.data(tmp_path / "data"), batch_size=0))


def test_a_prompt_grows_by_its_answer(tiny_llama: Path, tmp_path: Path) -> None:
    data = method_data.data(tmp_path / "data", "grpo")
    both = [
        check(
            TrainConfig,
            runs.request(tiny_llama, data, method={"name": "grpo", "max_completion_length": longest}),
        )
        for longest in (8, 24)
    ]
    short, long = (lengths_of(config, longest_rows(config)) for config in both)
    assert [b - a for a, b in zip(short, long, strict=True)] == [16] * len(short)


def test_the_machine_says_what_it_is() -> None:
    told = fitting.machine(MachineConfig(), Silent())
    assert told["backend"] in ("cpu", "metal", "cuda") and told["threads"] >= 1
    assert told["limit"] > 0
