"""What the plan says of a rate before a training starts."""

from __future__ import annotations

from typing import Any

import pytest

from training.engine.config.training import TrainSettings, check
from training.plan import _rate_warnings, updates_for


@pytest.mark.parametrize(
    ("optimizer", "rate", "words"),
    [
        ("lion_8bit", 1e-4, "high for Lion"),
        ("lion", 1e-5, ""),
        ("sgd", 1e-4, "low for SGD"),
        ("adadelta", 1e-3, "low for AdaDelta"),
        ("adamw", 1e-4, ""),
        ({"name": "adafactor", "relative_step": True}, 1e-4, "are ignored"),
        ("adafactor", 1e-4, ""),
    ],
)
def test_a_rate_that_hardly_fits_is_told(optimizer: Any, rate: float, words: str) -> None:
    settings = check(TrainSettings, {"optimizer": optimizer, "learning_rate": rate})
    warnings = _rate_warnings(settings.optimizer, rate)
    assert words in "".join(warnings)
    assert bool(warnings) == bool(words)


@pytest.mark.parametrize(
    ("method", "updates"),
    [
        ({"name": "grpo", "num_generations": 4, "rollout_batch": 4}, 5),  # 16, 16 and 8 answers
        ({"name": "grpo", "num_generations": 4, "rollout_batch": 4, "num_iterations": 2}, 10),
        ({"name": "ppo", "num_ppo_epochs": 2, "rollout_batch": 4}, 6),
        ("sft", 2),
    ],
)
def test_a_rollout_is_cut_in_each_pass(method: Any, updates: int) -> None:
    settings = check(TrainSettings, {"method": method, "batch_size": 8, "epochs": 1})
    assert updates_for(settings, 10) == (updates, 1)
