"""Preference losses of summed log-probabilities: arrays in, arrays out, one value per example.

A ``Pair`` is (chosen, rejected), each (examples,) float32. Log-probabilities are sums over an answer's tokens, in
nats; ``tokens`` are the numbers of these tokens. Every function returns the loss per example, differentiable in
the policy's log-probabilities, and what is reported beside it, per example and without gradient:
``reward_chosen``, ``reward_rejected``, ``reward_margin`` (their difference) and ``reward_accuracy`` (1 where the
chosen answer has the higher reward). Formulas and defaults are TRL 1.16's; ``tests/parity`` compares.
"""

from __future__ import annotations

from typing import Literal

import mlx.core as mx

Pair = tuple[mx.array, mx.array]
Terms = dict[str, mx.array]
DpoLoss = Literal["sigmoid", "hinge", "ipo", "robust", "sigmoid_norm", "apo_zero", "apo_down"]
CpoLoss = Literal["sigmoid", "hinge", "ipo", "simpo"]
KtoLoss = Literal["kto", "apo_zero_unpaired"]

#: A mean log-probability nearer to 0 than this counts as this: the odds of a certain answer are infinite.
_CERTAIN = -1e-6


def log_sigmoid(x: mx.array) -> mx.array:
    """log σ(x) = −log(1 + e^−x), without overflow for any finite x."""
    return -mx.logaddexp(-x, mx.zeros_like(x))


def log1m_exp(x: mx.array) -> mx.array:
    """log(1 − e^x) for x < 0, exact to the last bits at both ends (Mächler 2012, Rmpfr's log1mexp)."""
    near = x > -0.6931472
    # Each branch sees only numbers it can bear: an infinite gradient is NaN even when it is not chosen.
    first = mx.log(-mx.expm1(mx.where(near, x, -0.5)))
    second = mx.log1p(-mx.exp(mx.where(near, -1.0, x)))
    return mx.where(near, first, second)


def dpo(
    policy: Pair,
    reference: Pair,
    tokens: Pair,
    *,
    beta: float = 0.1,
    loss_type: DpoLoss = "sigmoid",
    label_smoothing: float = 0.0,
) -> tuple[mx.array, Terms]:
    """Direct preference optimisation, Rafailov et al. 2023 (arXiv 2305.18290).

    With r = log π(y|x) − log π_ref(y|x) of either answer and Δ = r_chosen − r_rejected:

    - ``sigmoid``: −log σ(βΔ); with ``label_smoothing`` ε conservative DPO (Mitchell 2023),
      −(1 − ε) log σ(βΔ) − ε log σ(−βΔ).
    - ``hinge``: max(0, 1 − βΔ) (SLiC, Zhao et al. 2023, arXiv 2305.10425).
    - ``ipo``: (Δ̄ − 1/(2β))², Δ̄ of the r per token (Azar et al. 2023, arXiv 2310.12036; per token as its authors
      confirmed to TRL).
    - ``robust``: (−(1 − ε) log σ(βΔ) + ε log σ(−βΔ)) / (1 − 2ε), ε < 1/2 (Chowdhury et al. 2024, arXiv 2403.00409).
    - ``sigmoid_norm``: −log σ(βΔ̄).
    - ``apo_zero``: 1 − σ(β r_chosen) + σ(β r_rejected); ``apo_down``: σ(β r_chosen) + 1 − σ(βΔ)
      (D'Oosterlinck et al. 2024, arXiv 2408.06266).

    ``beta`` > 0. TRL: DPOConfig(beta, loss_type, label_smoothing); its ``sigmoid`` does not smooth (any more).
    Rewards are β r.
    """
    ratios = policy[0] - reference[0], policy[1] - reference[1]
    delta = ratios[0] - ratios[1]
    if loss_type in ("ipo", "sigmoid_norm"):
        per_token = _mean(ratios, tokens)
        delta = per_token[0] - per_token[1]
    if loss_type == "apo_zero":
        loss = 1 - mx.sigmoid(beta * ratios[0]) + mx.sigmoid(beta * ratios[1])
    elif loss_type == "apo_down":
        loss = mx.sigmoid(beta * ratios[0]) + 1 - mx.sigmoid(beta * delta)
    elif loss_type == "robust":
        flipped = label_smoothing * log_sigmoid(-beta * delta)
        loss = (flipped - (1 - label_smoothing) * log_sigmoid(beta * delta)) / (1 - 2 * label_smoothing)
    else:
        loss = _compared(delta, beta, loss_type, label_smoothing)
    return loss, _rewards(ratios, beta)


def cpo(
    policy: Pair,
    tokens: Pair,
    *,
    beta: float = 0.1,
    loss_type: CpoLoss = "sigmoid",
    label_smoothing: float = 0.0,
    cpo_alpha: float = 1.0,
    simpo_gamma: float = 0.5,
) -> tuple[mx.array, Terms]:
    """Contrastive preference optimisation, Xu et al. 2024 (arXiv 2401.08417): DPO without a reference.

    L(Δ) + α · −log π(y_chosen|x) / |y_chosen|, with Δ = log π(y_chosen|x) − log π(y_rejected|x) and L as in
    :func:`dpo` (``sigmoid`` with ``label_smoothing``, ``hinge``, ``ipo``); ``ipo`` and ``simpo`` take log-probs per
    token, ``simpo`` is :func:`simpo`. ``beta`` > 0; ``cpo_alpha`` α ≥ 0 is TRL's name, too (CPOConfig).

    The second term, imitation of the chosen answer, is a mean over each answer's tokens; TRL takes one over all
    tokens of the micro-batch, which would make the loss depend on how rows are cut into micro-batches.
    """
    means = _mean(policy, tokens)
    scores = means if loss_type in ("ipo", "simpo") else policy
    delta = scores[0] - scores[1]
    if loss_type == "simpo":
        loss = _compared(delta - simpo_gamma / beta, beta, "sigmoid", label_smoothing)
    else:
        loss = _compared(delta, beta, loss_type, label_smoothing)
    return loss - cpo_alpha * means[0], _rewards(scores, beta)


def simpo(
    policy: Pair, tokens: Pair, *, beta: float = 2.0, simpo_gamma: float = 0.5, label_smoothing: float = 0.0
) -> tuple[mx.array, Terms]:
    """Simple preference optimisation, Meng et al. 2024 (arXiv 2405.14734).

    −log σ(β/|y_c| · log π(y_c|x) − β/|y_r| · log π(y_r|x) − γ). ``beta`` > 0, margin ``simpo_gamma`` γ ≥ 0.
    TRL: CPOConfig(loss_type="simpo", cpo_alpha=0, beta, simpo_gamma, label_smoothing).
    """
    return cpo(
        policy,
        tokens,
        beta=beta,
        loss_type="simpo",
        label_smoothing=label_smoothing,
        cpo_alpha=0.0,
        simpo_gamma=simpo_gamma,
    )


def orpo(policy: Pair, tokens: Pair, *, beta: float = 0.1) -> tuple[mx.array, Terms]:
    """Odds ratio preference optimisation, Hong et al. 2024 (arXiv 2403.07691).

    −p̄_c − β log σ(log odds(p̄_c) − log odds(p̄_r)) with p̄ the mean log-probability of an answer's tokens and
    log odds(p̄) = p̄ − log(1 − e^p̄). ``beta`` > 0 is the paper's λ. TRL: ORPOConfig(beta).

    The first term imitates the chosen answer. TRL takes it over the prompt as well and as a mean over all tokens of
    the micro-batch; the paper's equation 6 has the answer, and per example it does not depend on micro-batches.
    """
    means = _mean(policy, tokens)
    odds = [x - log1m_exp(x) for x in (mx.minimum(m, _CERTAIN) for m in means)]
    return -means[0] - beta * log_sigmoid(odds[0] - odds[1]), _rewards(means, beta)


def kto(
    policy: mx.array,
    reference: mx.array,
    label: mx.array,
    kl: mx.array,
    *,
    beta: float = 0.1,
    loss_type: KtoLoss = "kto",
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> tuple[mx.array, Terms]:
    """Kahneman–Tversky optimisation, Ethayarajh et al. 2024 (arXiv 2402.01306): single answers, good or bad.

    With r = log π(y|x) − log π_ref(y|x) and z₀ = ``kl`` ≥ 0, shape (), of :func:`kto_kl`:
    w_d (1 − σ(β(r − z₀))) where ``label`` is 1, w_u (1 − σ(β(z₀ − r))) where it is 0.
    ``apo_zero_unpaired`` takes z₀ = 0. All arrays (examples,). TRL: KTOConfig with the same names.

    Reported: ``reward_chosen`` and ``reward_rejected`` (β r, 0 for an example of the other kind), ``desirable`` (1
    or 0, so that means over either kind can be taken) and ``reward_accuracy`` (on the right side of β z₀).
    """
    ratio = policy - reference
    zero = mx.stop_gradient(kl) if loss_type == "kto" else mx.zeros_like(kl)
    good = label > 0
    sign = mx.where(good, 1.0, -1.0)
    weight = mx.where(good, desirable_weight, undesirable_weight)
    loss = weight * (1 - mx.sigmoid(sign * beta * (ratio - zero)))
    reward = mx.stop_gradient(beta * ratio)
    terms = {
        "reward_chosen": mx.where(good, reward, 0.0),
        "reward_rejected": mx.where(good, 0.0, reward),
        "desirable": good.astype(mx.float32),
        "reward_accuracy": ((reward > beta * zero) == good).astype(mx.float32),
    }
    return loss, terms


def kto_kl(policy: mx.array, reference: mx.array) -> mx.array:
    """KTO's z₀, shape (): max(0, mean of log π(y'|x) − log π_ref(y'|x)) over answers y' of *other* prompts.

    Both (examples,), without gradient.
    """
    return mx.stop_gradient(mx.maximum(mx.mean(policy - reference), 0.0))


def reward(
    chosen: mx.array, rejected: mx.array, margin: mx.array | None = None, *, center_rewards_coefficient: float = 0.0
) -> tuple[mx.array, Terms]:
    """Bradley–Terry loss of a reward model: −log σ(r_chosen − r_rejected − m) + c (r_chosen + r_rejected)².

    ``chosen``, ``rejected``: scalar rewards (examples,). ``margin`` m (examples,): how much better the chosen answer
    is (Touvron et al. 2023, arXiv 2307.09288, equation 2). ``center_rewards_coefficient`` c ≥ 0 draws the rewards
    to mean 0 (Eisenstein et al. 2023, arXiv 2312.09244). TRL: RewardConfig(center_rewards_coefficient), and the
    data's column ``margin``.
    """
    difference = chosen - rejected
    loss = -log_sigmoid(difference if margin is None else difference - margin)
    if center_rewards_coefficient:
        loss = loss + center_rewards_coefficient * mx.square(chosen + rejected)
    return loss, _rewards((chosen, rejected), 1.0)


def _compared(delta: mx.array, beta: float, loss_type: str, smoothing: float) -> mx.array:
    """Loss of the difference of two answers' scores."""
    if loss_type == "hinge":
        return mx.maximum(1 - beta * delta, 0.0)
    if loss_type == "ipo":
        return mx.square(delta - 1 / (2 * beta))
    loss = -(1 - smoothing) * log_sigmoid(beta * delta)
    return loss - smoothing * log_sigmoid(-beta * delta) if smoothing else loss


def _mean(sums: Pair, tokens: Pair) -> Pair:
    """Per token; an answer without tokens counts as one of one token."""
    return sums[0] / mx.maximum(tokens[0], 1), sums[1] / mx.maximum(tokens[1], 1)


def _rewards(scores: Pair, beta: float) -> Terms:
    chosen, rejected = (mx.stop_gradient(beta * x) for x in scores)
    return {
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "reward_accuracy": (chosen > rejected).astype(mx.float32),
        "reward_margin": chosen - rejected,
    }
