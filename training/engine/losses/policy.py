"""Losses of policies that learn from their own answers (PPO, GRPO and its relatives), target by target.

Arrays lie on one token axis: ``log_probs`` and what belongs to them are (targets,), ``row`` says which answer a target
is of, ``counted`` is 1, or 0 where a fixed shape is filled up. What stands at a filling has no influence, on
values or gradients, be it NaN. Returned losses are per target and to be *summed*, then divided by the number of their
unit (:data:`UNIT`); terms are per target, without gradient, 0 at fillings, for means over the counted targets. What is
made of rewards on the host before stands in ``advantages.py``. ``tests/parity`` compares with TRL.
"""

from __future__ import annotations

from typing import Literal

import mlx.core as mx

from training.engine.losses import per_target

Terms = dict[str, mx.array]
KlEstimator = Literal["k1", "k2", "k3"]
GrpoLoss = Literal["grpo", "bnpo", "dr_grpo", "dapo"]
Level = Literal["token", "sequence"]

#: What a loss type's sum is divided by: answers, or counted tokens of the whole update.
UNIT: dict[GrpoLoss, Literal["example", "token"]] = {
    "grpo": "example",
    "dr_grpo": "example",
    "bnpo": "token",
    "dapo": "token",
}


def kl(log_probs: mx.array, reference: mx.array, estimator: KlEstimator = "k3") -> mx.array:
    """KL(π ‖ π_ref) estimated at each sampled token, nats, from its log-probability under both.

    With l = log π_ref − log π: ``k1`` = −l (unbiased, may be negative), ``k2`` = l²/2, ``k3`` = e^l − 1 − l (unbiased,
    never negative). Schulman 2020, "Approximating KL divergence".
    """
    other = reference - log_probs
    if estimator == "k1":
        return -other
    return mx.square(other) / 2 if estimator == "k2" else mx.exp(other) - 1 - other


def ppo_policy(
    log_probs: mx.array, old_log_probs: mx.array, advantages: mx.array, counted: mx.array, *, cliprange: float = 0.2
) -> tuple[mx.array, Terms]:
    """PPO's clipped loss, Schulman et al. 2017 (arXiv 1707.06347), equation 7; unit: token.

    max(−A ρ, −A clip(ρ, 1 − ε, 1 + ε)) with ρ = π/π_old. All arrays (targets,). TRL's PPOConfig names: ``cliprange`` ε.
    Terms: ``clip_fraction`` (1 where the clipped branch is the larger), ``approx_kl`` ((log ρ)²/2), ``ratio`` (ρ).
    """
    real = counted > 0
    log_ratio = mx.where(real, log_probs - old_log_probs, 0.0)
    advantages = mx.where(real, advantages, 0.0)
    ratio = mx.exp(log_ratio)
    plain, clipped = -advantages * ratio, -advantages * mx.clip(ratio, 1 - cliprange, 1 + cliprange)
    terms = {
        "clip_fraction": clipped > plain,
        "approx_kl": mx.square(log_ratio) / 2,
        "ratio": mx.where(real, ratio, 0.0),
    }
    return mx.maximum(plain, clipped), _told(terms)


def ppo_value(
    values: mx.array, old_values: mx.array, returns: mx.array, counted: mx.array, *, cliprange_value: float = 0.2
) -> tuple[mx.array, Terms]:
    """PPO's clipped value loss, (targets,); unit: token.

    ½ max((V − R)², (clip(V, V_old − ε, V_old + ε) − R)²), as in OpenAI's baselines and TRL (``cliprange_value`` ε).
    Terms: ``value_clip_fraction``, ``value_error`` ((V − R)²).
    """
    real = counted > 0
    values, old_values, returns = (mx.where(real, x, 0.0) for x in (values, old_values, returns))
    near = mx.clip(values, old_values - cliprange_value, old_values + cliprange_value)
    plain, clipped = mx.square(values - returns), mx.square(near - returns)
    return mx.maximum(plain, clipped) / 2, _told({"value_clip_fraction": clipped > plain, "value_error": plain})


def grpo(
    log_probs: mx.array,
    old_log_probs: mx.array,
    advantages: mx.array,
    row: mx.array,
    counted: mx.array,
    *,
    loss_type: GrpoLoss = "dapo",
    importance_sampling_level: Level = "token",
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    beta: float = 0.0,
    reference: mx.array | None = None,
    max_completion_length: int = 0,
    kept: mx.array | None = None,
) -> tuple[mx.array, Terms]:
    """Group relative policy optimisation and its relatives: (targets,), to be summed and divided by :data:`UNIT`.

    −min(A ρ, A clip(ρ, 1 − ε, 1 + ε_high)) + β k3, with ρ = π/π_old per token, or per answer the geometric mean over
    its tokens (``importance_sampling_level`` sequence: GSPO, Zheng et al. 2025, arXiv 2507.18071). ``advantages``
    A are (rows,), of ``advantages.grouped``. Tokens are weighted by ``loss_type``:

    - ``grpo``: mean over an answer's tokens, mean over answers (Shao et al. 2024, arXiv 2402.03300).
    - ``dr_grpo``: sum / ``max_completion_length``, mean over answers (Liu et al. 2025, arXiv 2503.20783).
    - ``dapo``: mean over all tokens of the update (Yu et al. 2025, arXiv 2503.14476); ``bnpo``: the same, because
      sums are divided once an update here. TRL divides ``bnpo`` by the tokens of the micro-batch.

    ``epsilon_high`` ≥ ε is DAPO's clip-higher, None: ε. ``beta`` ≥ 0 weighs the KL to ``reference`` (targets,).
    ``kept`` (rows,): 0 leaves an answer out, DAPO's overlong filtering (TRL: ``mask_truncated_completions``); its
    tokens must not be counted as units of ``dapo`` then, its row stays one of ``grpo``. Other names are GRPOConfig's.
    Terms: ``kl`` (k3), ``clip_low``, ``clip_high``, ``clip_fraction``.
    """
    rows = advantages.shape[0]
    real = counted > 0 if kept is None else (counted > 0) & (kept[row] > 0)
    own = per_target.by_row(real.astype(mx.float32), row, rows)
    log_ratio = mx.where(real, log_probs - old_log_probs, 0.0)
    if importance_sampling_level == "sequence":
        log_ratio = (per_target.by_row(log_ratio, row, rows) / mx.maximum(own, 1))[row]
    high = 1 + (epsilon if epsilon_high is None else epsilon_high)
    loss, terms = _clipped(mx.exp(log_ratio), advantages[row], 1 - epsilon, high)
    if reference is not None:
        apart = mx.where(real, reference - log_probs, 0.0)
        terms["kl"] = mx.exp(apart) - 1 - apart
        loss = loss + beta * terms["kl"]
    loss, terms = mx.where(real, loss, 0.0), {name: mx.where(real, x, 0.0) for name, x in terms.items()}
    if loss_type == "grpo":
        loss = loss / mx.maximum(own, 1)[row]
    elif loss_type == "dr_grpo":
        loss = loss / max_completion_length
    return loss, _told(terms)


def _clipped(ratio: mx.array, advantage: mx.array, low: float, high: float) -> tuple[mx.array, Terms]:
    """The loss within [``low``, ``high``], and where either bound has cut it off."""
    loss = -mx.minimum(ratio * advantage, mx.clip(ratio, low, high) * advantage)
    below, above = (ratio < low) & (advantage < 0), (ratio > high) & (advantage > 0)
    return loss, {"clip_low": below, "clip_high": above, "clip_fraction": below | above}


def entropy(logits: mx.array) -> mx.array:
    """Entropy of softmax(``logits``) (…, vocabulary) in nats, (…,): log Σ e^z − Σ p z."""
    highest = mx.stop_gradient(mx.max(logits, axis=-1, keepdims=True))
    moved = logits - highest
    lse = mx.logsumexp(moved, axis=-1)
    weights = mx.exp(moved - lse[..., None])
    # A token that is ruled out (−∞) has the share 0, and 0 · ∞ is NaN.
    return lse - mx.sum(mx.where(mx.isinf(moved), 0.0, weights * moved), axis=-1)


def _told(terms: Terms) -> Terms:
    return {name: mx.stop_gradient(value.astype(mx.float32)) for name, value in terms.items()}
