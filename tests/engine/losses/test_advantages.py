"""From rewards to advantages: values worked by hand, and rows that have nothing to tell."""

from __future__ import annotations

import numpy as np
import pytest

from training.engine.losses import advantages
from training.engine.losses.advantages import AdaptiveKl


def f(*values: float) -> advantages.Floats:
    return np.array(values, dtype=np.float32)


def test_rewards_are_the_kl_at_each_token_and_the_score_at_the_last() -> None:
    rewards, kl = advantages.kl_penalised(f(-1, -2), f(-1.5, -1), 3.0, kl_coef=0.1)
    assert rewards.tolist() == pytest.approx([-0.05, 3.1])
    assert kl == pytest.approx(-0.5)
    rewards, kl = advantages.kl_penalised(f(-1), f(-2), 0.0, kl_coef=1.0, kl_estimator="k3")
    assert rewards.tolist() == pytest.approx([-np.exp(-1)])


def test_an_answer_that_was_cut_off_pays_for_it() -> None:
    rewards, _ = advantages.kl_penalised(f(-1, -1), f(-1, -1), 2.0, kl_coef=0.1, ended=False, missing_eos_penalty=0.5)
    assert rewards.tolist() == [0.0, 1.5]


def test_gae_by_hand() -> None:
    ahead, back = advantages.gae(f(1, 0, 2), f(0.5, 1, -1), gamma=0.9, lam=0.5)
    last = 2 + 1
    middle = 0 + 0.9 * -1 - 1 + 0.45 * last
    first = 1 + 0.9 * 1 - 0.5 + 0.45 * middle
    assert ahead.tolist() == pytest.approx([first, middle, last])
    assert back.tolist() == pytest.approx([first + 0.5, middle + 1, last - 1])


def test_gae_without_discount_and_values_is_what_is_still_to_come() -> None:
    assert advantages.gae(f(1, 2, 3), f(0, 0, 0), gamma=1.0, lam=1.0)[0].tolist() == [6.0, 5.0, 3.0]


def test_an_empty_answer_has_no_advantage() -> None:
    assert [len(x) for x in advantages.gae(f(), f())] == [0, 0]
    assert len(advantages.kl_penalised(f(), f(), 1.0, kl_coef=0.1)[0]) == 0


def test_whitened_rows_have_mean_0_and_variance_1_together() -> None:
    rows = advantages.whitened([f(1, 2, 3), f(10)])
    every = np.concatenate(rows)
    assert [len(row) for row in rows] == [3, 1]
    assert every.mean() == pytest.approx(0, abs=1e-6)
    assert every.std(ddof=1) == pytest.approx(1, rel=1e-6)
    kept = np.concatenate(advantages.whitened([f(1, 2, 3), f(10)], shift_mean=False))
    assert kept == pytest.approx(every + 4, rel=1e-6)


@pytest.mark.parametrize("rows", [[], [f(3)], [f(2, 2), f(2)]], ids=["none", "one", "all the same"])
def test_numbers_without_variance_become_nothing(rows: list[advantages.Floats]) -> None:
    assert all(not np.any(row) for row in advantages.whitened(rows))


def test_grouped_advantages_by_hand() -> None:
    rewards, group = f(1, 3, 0, 0, 6), np.array([0, 0, 1, 1, 1])
    assert advantages.grouped(rewards, group, scale_rewards="none").tolist() == [-1, 1, -2, -2, 4]
    deviations = [2**0.5, 12**0.5]
    expected = [-1 / deviations[0], 1 / deviations[0], -2 / deviations[1], -2 / deviations[1], 4 / deviations[1]]
    assert advantages.grouped(rewards, group).tolist() == pytest.approx(expected, rel=2e-4)
    batch = advantages.grouped(rewards, group, scale_rewards="batch")
    assert batch.tolist() == pytest.approx([x / rewards.std(ddof=1) for x in (-1, 1, -2, -2, 4)], rel=2e-4)


def test_a_reward_that_could_not_be_given_is_left_out() -> None:
    made = advantages.grouped(f(1, np.nan, 3, np.nan), np.array([0, 0, 0, 1]), scale_rewards="none")
    assert made.tolist() == [-1, 0, 1, 0]


def test_a_group_of_equal_rewards_teaches_nothing() -> None:
    assert advantages.grouped(f(2, 2, 5), np.array([0, 0, 1])).tolist() == [0, 0, 0]


def test_explained_variance() -> None:
    assert advantages.explained_variance(f(1, 2, 3), f(1, 2, 3)) == 1
    assert advantages.explained_variance(f(2, 2, 2), f(1, 2, 3)) == 0
    assert advantages.explained_variance(f(3, 2, 1), f(1, 2, 3)) == -3
    assert advantages.explained_variance(f(1, 2), f(4, 4)) == 0


def test_the_coefficient_follows_the_kl() -> None:
    controller = AdaptiveKl(0.2, target=6.0, horizon=1000.0)
    controller.update(6.6, 100)  # 10 % above its target
    assert controller.value == pytest.approx(0.2 * 1.01)
    controller.update(600.0, 100)  # never more than by 20 %
    assert controller.value == pytest.approx(0.2 * 1.01 * 1.02)
    controller.update(0.0, 100)
    assert controller.value == pytest.approx(0.2 * 1.01 * 1.02 * 0.98)
