"""PPO on a tiny model: a rollout and a loss worked by hand, the value head, the coefficient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.engine import method_data, runs
from tests.engine.methods.test_gates import Ready
from tests.engine.methods.test_grpo import ASKED, round_of
from training.engine.catalog.policy_methods import Ppo as Settings
from training.engine.errors import Exit
from training.engine.generation.answering import Answer
from training.engine.learning.policies import OLD
from training.engine.learning.reading import Read
from training.engine.methods.ppo import ADVANTAGES, RETURNS, VALUES, Ppo
from training.engine.rows.layouts import Flat

PLAIN: dict[str, Any] = {"whiten_advantages": False, "gamma": 1.0, "lam": 0.5}


def test_rewards_and_advantages_of_a_rollout_by_hand() -> None:
    """Every token pays 0.1 · (−1 + 2); the second answer was cut and pays 0.5 more."""
    made = round_of([2, 1], [[1, 2], [3]], [True, False])
    values = [np.array([0.5, 1.0], dtype=np.float32), np.array([0.25], dtype=np.float32)]
    made = replace(made, policy=Read(made.policy.log_probs, [], values))
    method = Ppo(Settings(kl_coef=0.1, missing_eos_penalty=0.5, **PLAIN))
    rewards = method._rewards_by_token(made)
    assert [row.tolist() for row in rewards] == [pytest.approx([-0.1, 1.9]), pytest.approx([0.4])]
    (one, other), explained = method._examples(made, rewards)
    last = 1.9 - 1.0
    first = -0.1 + 1.0 - 0.5 + 0.5 * last
    assert one.arrays[ADVANTAGES].tolist() == pytest.approx([first, last])
    assert one.arrays[RETURNS].tolist() == pytest.approx([first + 0.5, 1.9])
    assert other.arrays[ADVANTAGES].tolist() == pytest.approx([0.15])
    returns, foreseen = np.array([first + 0.5, 1.9, 0.4]), np.array([0.5, 1.0, 0.25])
    assert explained == pytest.approx(1 - (returns - foreseen).var() / returns.var())


def test_a_batch_by_hand(tiny_llama: Path, tmp_path: Path) -> None:
    """Ratios 1.5 and 0.5 with advantages 1 and −2; values 0 with old ones 0 and −1, returns 2 and 1."""
    ready = Ready(tmp_path, "ppo", tiny_llama, vf_coef=0.5)
    row = Answer(ASKED, [7, 8], [5, 60], "", True).example()
    now = ready.method._read([row], lambda: None).log_probs[0]  # type: ignore[attr-defined]
    numbers = {ADVANTAGES: [1, -2], VALUES: [0, -1], RETURNS: [2, 1]}
    arrays = {name: np.array(value, dtype=np.float32) for name, value in numbers.items()}
    old = (now - np.log(np.array([1.5, 0.5]))).astype(np.float32)
    terms = ready.method.loss(ready.model, Flat().lay([row.noted({}, {OLD: old, **arrays})]))
    assert terms["policy_loss"].item() == pytest.approx(-1.2 + 2 * 0.8, rel=1e-4)
    assert terms["value_loss"].item() == pytest.approx((2**2 + 1.8**2) / 2, rel=1e-5)
    assert terms["loss"].item() == pytest.approx(0.4 + 0.5 * 3.62, rel=1e-4)
    assert terms["clip_fraction"].item() == 2
    assert terms["value_clip_fraction"].item() == 1


def test_the_value_head_learns_and_reaches_into_the_body(tiny_llama: Path, tmp_path: Path) -> None:
    ready = Ready(tmp_path, "ppo", tiny_llama)
    head = ready.model.value_head
    assert not mx.any(head.weight).item()
    head.weight = mx.ones_like(head.weight)
    ready.rows.rows[:] = [one.noted({}, {ADVANTAGES: np.zeros(one.targets)}) for one in ready.rows.rows]
    _, gradients = ready.result(Flat(), [0, 1, 2])
    assert mx.any(gradients["value_head.weight"] != 0).item()
    assert all(mx.any(g != 0).item() for name, g in gradients.items() if name.endswith("lora_a"))


def test_it_is_saved_beside_the_adapter(tiny_llama: Path, tmp_path: Path) -> None:
    data = method_data.data(tmp_path / "data", "ppo")
    config = runs.request(tiny_llama, data, method=method_data.quick("ppo"), iters=2, learning_rate=1e-2)
    assert runs.run(tmp_path / "run", config) == Exit.FINISHED
    assert mx.any(runs.arrays(tmp_path / "run", 2)["value_head.weight"] != 0).item()


def test_the_coefficient_is_remembered() -> None:
    method = Ppo(Settings(kl_coef=0.2, adaptive_kl=True))
    method.restore({"kl_coef": 0.3})
    assert method.state() == {"kl_coef": 0.3}


def test_rewards_that_are_all_equal_make_no_nan(tiny_llama: Path, tmp_path: Path) -> None:
    ready = Ready(tmp_path, "ppo", tiny_llama, rewards=["length at_most=99"], max_completion_length=1, kl_coef=0)
    assert all(np.isfinite(one.arrays[ADVANTAGES]).all() for one in ready.rows.rows)
    terms, gradients = ready.result(Flat(), [0, 1])
    assert np.isfinite(list(terms.values())).all()
    assert all(mx.all(mx.isfinite(g)).item() for g in gradients.values())
