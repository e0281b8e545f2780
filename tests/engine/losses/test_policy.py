"""PPO and GRPO: values worked by hand, the meaning of each clip, and fillings that count nothing."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from training.engine.losses import policy

OLD = mx.array([-1.0, -2.0, -3.0])
RATIOS = (1.5, 1.0, 0.5)
NOW = OLD + mx.log(mx.array(RATIOS))
ONES = mx.ones(3)
GRPO = list(policy.GrpoLoss.__args__)


def test_kl_estimators_by_hand() -> None:
    now, reference = mx.array([-1.0, -2.0]), mx.array([-2.0, -1.0])
    assert policy.kl(now, reference, "k1").tolist() == [1.0, -1.0]
    assert policy.kl(now, reference, "k2").tolist() == [0.5, 0.5]
    assert policy.kl(now, reference).tolist() == pytest.approx([math.exp(-1), math.e - 2])


def test_ppo_clips_gains_and_not_losses() -> None:
    for sign, expected in ((1.0, [-1.2, -1.0, -0.5]), (-1.0, [1.5, 1.0, 0.8])):
        loss, terms = policy.ppo_policy(NOW, OLD, sign * ONES, ONES, cliprange=0.2)
        assert loss.tolist() == pytest.approx(expected)
        assert terms["clip_fraction"].tolist() == ([1, 0, 0] if sign > 0 else [0, 0, 1])
        assert terms["ratio"].tolist() == pytest.approx(RATIOS)
        assert terms["approx_kl"].tolist() == pytest.approx([math.log(r) ** 2 / 2 for r in RATIOS])


def test_a_clipped_token_has_no_gradient_and_a_free_one_has() -> None:
    slope = mx.grad(lambda x: policy.ppo_policy(x, OLD, ONES, ONES)[0].sum())(NOW)
    assert slope.tolist() == pytest.approx([0.0, -1.0, -0.5])


def test_values_are_clipped_near_the_old_ones() -> None:
    values, old, returns = mx.array([1.0, 0.1]), mx.array([0.0, 0.0]), mx.array([0.5, 2.0])
    loss, terms = policy.ppo_value(values, old, returns, mx.ones(2), cliprange_value=0.2)
    assert loss.tolist() == pytest.approx([0.25 / 2, 1.9**2 / 2])
    assert terms["value_error"].tolist() == pytest.approx([0.25, 1.9**2])
    assert terms["value_clip_fraction"].tolist() == [0, 0]
    clipped, terms = policy.ppo_value(mx.array([1.0]), mx.array([0.0]), mx.array([2.0]), mx.ones(1))
    assert clipped.item() == pytest.approx(1.8**2 / 2)
    assert terms["value_clip_fraction"].item() == 1


def answers(**settings: Any) -> tuple[mx.array, policy.Terms]:
    """Answer 0 has the first two tokens and A = 1, answer 1 the third and A = −2."""
    row, advantages = mx.array([0, 0, 1]), mx.array([1.0, -2.0])
    return policy.grpo(NOW, OLD, advantages, row, ONES, **settings)


WEIGHED = {"grpo": [-0.6, -0.5, 1.6], "dr_grpo": [-0.15, -0.125, 0.2], "dapo": [-1.2, -1, 1.6], "bnpo": [-1.2, -1, 1.6]}


@pytest.mark.parametrize(("loss_type", "expected"), WEIGHED.items(), ids=WEIGHED)
def test_grpo_weighs_tokens_by_its_type(loss_type: policy.GrpoLoss, expected: list[float]) -> None:
    loss, terms = answers(loss_type=loss_type, max_completion_length=8)
    assert loss.tolist() == pytest.approx(expected)
    assert terms["clip_high"].tolist() == [1, 0, 0]
    assert terms["clip_low"].tolist() == [0, 0, 1]
    assert terms["clip_fraction"].tolist() == [1, 0, 1]


def test_clip_higher_lets_a_good_token_grow_further() -> None:
    assert answers(epsilon_high=0.6)[0][0].item() == pytest.approx(-1.5)


def test_gspo_takes_the_geometric_mean_of_an_answer() -> None:
    loss, _ = answers(importance_sampling_level="sequence", epsilon=0.9)
    assert loss.tolist() == pytest.approx([-math.sqrt(1.5), -math.sqrt(1.5), 2 * 0.5])


def test_kl_to_the_reference_is_added() -> None:
    plain, _ = answers()
    loss, terms = answers(beta=0.1, reference=OLD)
    k3 = [1 / r - 1 + math.log(r) for r in RATIOS]
    assert terms["kl"].tolist() == pytest.approx(k3)
    assert (loss - plain).tolist() == pytest.approx([0.1 * x for x in k3], abs=1e-6)


@pytest.mark.parametrize("loss_type", GRPO)
def test_an_answer_that_is_not_kept_counts_nothing(loss_type: policy.GrpoLoss) -> None:
    loss, terms = answers(loss_type=loss_type, max_completion_length=8, kept=mx.array([1, 0]))
    assert loss[2].item() == 0 and loss[0].item() != 0
    assert terms["clip_low"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("loss_type", GRPO)
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_fillings_change_nothing_be_they_nan(loss_type: policy.GrpoLoss, level: policy.Level) -> None:
    def run(fill: int) -> tuple[mx.array, mx.array]:
        nan = mx.full(fill, math.nan)
        now, old, counted = (mx.concatenate(pair) for pair in ((NOW, nan), (OLD, nan), (ONES, mx.zeros(fill))))
        row = mx.concatenate([mx.array([0, 0, 1]), mx.zeros(fill, dtype=mx.int32)])
        settings = {"loss_type": loss_type, "importance_sampling_level": level, "max_completion_length": 8, "beta": 0.1}
        advantages = mx.array([1.0, -2.0])
        loss = lambda x: policy.grpo(x, old, advantages, row, counted, reference=old, **settings)[0].sum()
        return mx.value_and_grad(loss)(now)

    (own, slope), (other, others) = run(0), run(3)
    assert own.item() == other.item()
    assert mx.abs(slope).max().item() > 1e-3
    assert others.tolist() == [*slope.tolist(), 0, 0, 0]


def test_a_batch_of_nothing_but_fillings_is_0() -> None:
    none, nan = mx.zeros(3), mx.full(3, math.nan)
    row, settings = mx.zeros(3, dtype=mx.int32), {"importance_sampling_level": "sequence", "loss_type": "grpo"}

    def loss(now: mx.array) -> mx.array:
        made = policy.grpo(now, nan, mx.zeros(1), row, none, **settings)[0] + policy.ppo_policy(now, nan, nan, none)[0]
        return mx.sum(made + policy.ppo_value(now, nan, nan, none)[0])

    value, slope = mx.value_and_grad(loss)(nan)
    assert value.item() == 0
    assert slope.tolist() == [0, 0, 0]


@pytest.mark.parametrize("loss_type", GRPO)
def test_the_order_of_answers_does_not_matter(loss_type: policy.GrpoLoss) -> None:
    settings = {"loss_type": loss_type, "max_completion_length": 8}
    turned = policy.grpo(NOW[::-1], OLD[::-1], mx.array([-2.0, 1.0]), mx.array([0, 1, 1]), ONES, **settings)[0]
    assert turned[::-1].tolist() == answers(**settings)[0].tolist()


def test_the_first_update_of_grpo_has_a_gradient_although_the_ratio_is_1() -> None:
    row, advantages = mx.array([0, 0, 1]), mx.array([1.0, -2.0])
    slope = mx.grad(lambda x: policy.grpo(x, OLD, advantages, row, ONES)[0].sum())(OLD)
    assert slope.tolist() == pytest.approx([-1.0, -1.0, 2.0])


def test_entropy_by_hand_and_under_a_shift() -> None:
    assert policy.entropy(mx.zeros((2, 4))).tolist() == pytest.approx([math.log(4)] * 2)
    p = np.array([0.7, 0.2, 0.1])
    logits = mx.log(mx.array(p))
    expected = float(-(p * np.log(p)).sum())
    assert policy.entropy(logits).item() == pytest.approx(expected, rel=1e-6)
    assert policy.entropy(logits + 300).item() == pytest.approx(expected, rel=1e-4)
    assert policy.entropy(mx.array([0.0, -math.inf])).item() == 0
