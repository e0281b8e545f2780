"""Preference losses: values worked by hand, and what must and must not change them."""

from __future__ import annotations

import math
from collections.abc import Callable

import mlx.core as mx
import pytest

from training.engine.losses import preferences
from training.engine.losses.preferences import Pair, Terms

# Two rows: one the policy has right (Δ = 2 − (−1) = 3), one it has wrong (Δ = −2).
POLICY = mx.array([-3.0, -8.0]), mx.array([-6.0, -4.0])
REFERENCE = mx.array([-5.0, -7.0]), mx.array([-5.0, -5.0])
TOKENS = mx.array([4.0, 2.0]), mx.array([2.0, 4.0])
RATIOS = [(2.0, -1.0), (-1.0, 1.0)]
DPO = list(preferences.DpoLoss.__args__)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(loss_type: str, chosen: float, rejected: float, counts: tuple[float, float]) -> float:
    """β = 0.5, ε = 0.1 where there is one."""
    delta, mean = 0.5 * (chosen - rejected), chosen / counts[0] - rejected / counts[1]
    right, wrong = -math.log(sigmoid(delta)), -math.log(sigmoid(-delta))
    return {
        "sigmoid": 0.9 * right + 0.1 * wrong,
        "hinge": max(0.0, 1 - delta),
        "ipo": (mean - 1) ** 2,
        "robust": (0.9 * right - 0.1 * wrong) / 0.8,
        "sigmoid_norm": 0.9 * -math.log(sigmoid(0.5 * mean)) + 0.1 * -math.log(sigmoid(-0.5 * mean)),
        "apo_zero": 1 - sigmoid(0.5 * chosen) + sigmoid(0.5 * rejected),
        "apo_down": sigmoid(0.5 * chosen) + 1 - sigmoid(delta),
    }[loss_type]


@pytest.mark.parametrize("loss_type", DPO)
def test_dpo_is_its_formula(loss_type: preferences.DpoLoss) -> None:
    made, _ = preferences.dpo(POLICY, REFERENCE, TOKENS, beta=0.5, loss_type=loss_type, label_smoothing=0.1)
    counts = [(4.0, 2.0), (2.0, 4.0)]
    expected = [by_hand(loss_type, *ratios, count) for ratios, count in zip(RATIOS, counts, strict=True)]
    assert made.tolist() == pytest.approx(expected, rel=1e-6)


def test_dpo_tells_rewards() -> None:
    _, terms = preferences.dpo(POLICY, REFERENCE, TOKENS, beta=0.5)
    assert terms["reward_chosen"].tolist() == [1.0, -0.5]
    assert terms["reward_rejected"].tolist() == [-0.5, 0.5]
    assert terms["reward_margin"].tolist() == [1.5, -1.0]
    assert terms["reward_accuracy"].tolist() == [1.0, 0.0]


def test_an_untrained_policy_starts_at_log_2_with_a_gradient() -> None:
    made = preferences.dpo(REFERENCE, REFERENCE, TOKENS)[0]
    assert made.tolist() == pytest.approx([math.log(2)] * 2)
    slope = mx.grad(lambda chosen: preferences.dpo((chosen, REFERENCE[1]), REFERENCE, TOKENS, beta=0.1)[0].sum())
    assert slope(REFERENCE[0]).tolist() == pytest.approx([-0.05, -0.05])


def test_cpo_adds_imitation_of_the_chosen_answer() -> None:
    made, terms = preferences.cpo(POLICY, TOKENS, beta=0.5, cpo_alpha=2.0)
    expected = [-math.log(sigmoid(0.5 * 3)) + 2 * 3 / 4, -math.log(sigmoid(0.5 * -4)) + 2 * 8 / 2]
    assert made.tolist() == pytest.approx(expected, rel=1e-6)
    assert terms["reward_margin"].tolist() == [1.5, -2.0]


def test_simpo_compares_means_and_asks_for_a_margin() -> None:
    made, _ = preferences.simpo(POLICY, TOKENS, beta=2.0, simpo_gamma=0.5)
    expected = [-math.log(sigmoid(2 * (-0.75 + 3) - 0.5)), -math.log(sigmoid(2 * (-4 + 1) - 0.5))]
    assert made.tolist() == pytest.approx(expected, rel=1e-6)


def test_orpo_is_imitation_and_log_odds() -> None:
    made, _ = preferences.orpo(POLICY, TOKENS, beta=0.3)
    odds = [math.exp(x) / (1 - math.exp(x)) for x in (-0.75, -3.0)]
    assert made[0].item() == pytest.approx(0.75 - 0.3 * math.log(sigmoid(math.log(odds[0] / odds[1]))), rel=1e-5)


def test_orpo_bears_a_certain_answer() -> None:
    def loss(chosen: mx.array) -> mx.array:
        return preferences.orpo((chosen, mx.array([-4.0])), (mx.ones(1), mx.ones(1)))[0].sum()

    value, gradient = mx.value_and_grad(loss)(mx.zeros(1))
    assert math.isfinite(value.item()) and math.isfinite(gradient.item())


def test_kto_weighs_good_and_bad_answers() -> None:
    label, kl = mx.array([1.0, 0.0]), mx.array(0.5)
    policy, reference = mx.array([-3.0, -4.0]), mx.array([-5.0, -5.0])  # ratios 2 and 1
    made, terms = preferences.kto(policy, reference, label, kl, beta=0.4, desirable_weight=2.0, undesirable_weight=3.0)
    assert made.tolist() == pytest.approx([2 * (1 - sigmoid(0.4 * 1.5)), 3 * (1 - sigmoid(0.4 * -0.5))], rel=1e-6)
    assert terms["reward_chosen"].tolist() == pytest.approx([0.8, 0.0])
    assert terms["reward_rejected"].tolist() == pytest.approx([0.0, 0.4])
    assert terms["reward_accuracy"].tolist() == [1.0, 0.0]


def test_kto_kl_is_never_negative_and_not_trained() -> None:
    assert preferences.kto_kl(mx.array([-3.0, -2.0]), mx.array([-4.0, -2.0])).item() == 0.5
    assert preferences.kto_kl(mx.array([-3.0]), mx.array([-2.0])).item() == 0.0
    slope = mx.grad(lambda x: preferences.kto_kl(x, mx.array([-4.0])))(mx.array([-3.0]))
    assert slope.item() == 0.0


def test_reward_takes_margin_and_centring() -> None:
    made, terms = preferences.reward(mx.array([2.0]), mx.array([0.5]), mx.array([1.0]), center_rewards_coefficient=0.01)
    assert made.item() == pytest.approx(-math.log(sigmoid(0.5)) + 0.01 * 2.5**2, rel=1e-6)
    assert terms["reward_margin"].item() == 1.5


LOSSES: dict[str, Callable[[Pair, Pair], tuple[mx.array, Terms]]] = {
    **{name: lambda p, r, name=name: preferences.dpo(p, r, TOKENS, loss_type=name) for name in DPO},
    "cpo": lambda p, r: preferences.cpo(p, TOKENS),
    "simpo": lambda p, r: preferences.simpo(p, TOKENS),
    "orpo": lambda p, r: preferences.orpo(p, TOKENS),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_chosen_answer_is_drawn_up_and_the_rejected_one_pushed_down(name: str) -> None:
    # By the second row, which is wrong. APO-down lowers a chosen answer too, only less.
    up, down = mx.grad(lambda p: LOSSES[name](p, REFERENCE)[0].sum())(POLICY)
    assert down[1].item() > 1e-4
    assert up[1].item() < -1e-4 or (name == "apo_down" and up[1] < down[1])


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_has_its_loss_wherever_it_stands(name: str) -> None:
    turned = [tuple(x[::-1] for x in pair) for pair in (POLICY, REFERENCE, TOKENS)]
    loss = LOSSES[name](POLICY, REFERENCE)[0]
    if name in ("cpo", "simpo", "orpo"):
        other = getattr(preferences, name)(turned[0], turned[2])[0]
    else:
        other = preferences.dpo(*turned, loss_type=name)[0]
    assert mx.array_equal(loss, other[::-1])


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_log_probabilities_give_finite_losses_and_gradients(name: str) -> None:
    far = mx.array([-2e4, -1e-9]), mx.array([-1e-9, -2e4])
    value, gradients = mx.value_and_grad(lambda p: LOSSES[name](p, REFERENCE)[0].sum())(far)
    assert math.isfinite(value.item())
    assert all(mx.all(mx.isfinite(g)).item() for g in gradients)


def test_log_sigmoid_and_log1m_exp_are_exact_at_both_ends() -> None:
    assert preferences.log_sigmoid(mx.array([-100.0, 0.0, 100.0])).tolist() == pytest.approx([-100, -math.log(2), 0])
    x = [-30.0, -1.0, -0.7, -0.69, -1e-3, -1e-5]
    expected = [math.log(-math.expm1(v)) for v in x]
    assert preferences.log1m_exp(mx.array(x)).tolist() == pytest.approx(expected, rel=1e-6)
