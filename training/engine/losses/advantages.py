"""From the rewards of a rollout to advantages: on the host, row by row, before anything is learnt.

Rows are one-dimensional float arrays, one number per token of an answer, without padding. Computed in float64, given
back in float32. ``policy.py`` has the losses that use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]
Scale = Literal["group", "batch", "none"]

#: As in TRL: added to a variance, and to a group's standard deviation.
_EPS_VARIANCE, _EPS_DEVIATION = 1e-8, 1e-4
#: A step of the adaptive coefficient sees at most this relative error (Ziegler et al. 2019, section 2.2).
_LARGEST_ERROR = 0.2


def kl_penalised(
    log_probs: Floats,
    reference: Floats,
    score: float,
    *,
    kl_coef: float,
    kl_estimator: Literal["k1", "k3"] = "k1",
    ended: bool = True,
    missing_eos_penalty: float = 0.0,
) -> tuple[Floats, float]:
    """Rewards per token of one answer, and its KL (nats, summed): −κ · kl_t, the ``score`` added at the last token.

    Ziegler et al. 2019 (arXiv 1909.08593), equation 2. ``log_probs`` and ``reference`` (tokens,) are the sampled
    tokens' under the policy that sampled them and under the reference; estimators as in ``policy.kl``. An answer that
    was cut off instead of ``ended`` loses ``missing_eos_penalty`` ≥ 0. Names are PPOConfig's in TRL, which puts the
    score one place behind the last token; here it is at the last one.
    """
    apart = log_probs.astype(np.float64) - reference.astype(np.float64)
    kl = apart if kl_estimator == "k1" else np.expm1(-apart) + apart
    rewards = -kl_coef * kl
    if len(rewards):
        rewards[-1] += score - (0.0 if ended else missing_eos_penalty)
    return rewards.astype(np.float32), float(kl.sum())


def gae(rewards: Floats, values: Floats, *, gamma: float = 1.0, lam: float = 0.95) -> tuple[Floats, Floats]:
    """Advantages and returns of one answer, (tokens,) each: generalised advantage estimation.

    δ_t = r_t + γ V_{t+1} − V_t, A_t = δ_t + γ λ A_{t+1}, R_t = A_t + V_t; nothing follows the last token. Schulman et
    al. 2016 (arXiv 1506.02438). ``values`` V (tokens,): of the state before each token. γ and λ within [0, 1].
    """
    advantages = np.zeros(len(rewards))
    after = ahead = 0.0  # value and advantage of the next token
    for t in range(len(rewards) - 1, -1, -1):
        ahead = float(rewards[t]) + gamma * after - float(values[t]) + gamma * lam * ahead
        after = float(values[t])
        advantages[t] = ahead
    return advantages.astype(np.float32), (advantages + values).astype(np.float32)


def whitened(rows: Sequence[Floats], *, shift_mean: bool = True) -> list[Floats]:
    """``rows`` scaled to variance 1 over all their numbers (divided by n − 1), and to mean 0 unless told not to.

    One number alone has no variance and becomes 0 (or stays, without ``shift_mean``), where TRL gives NaN or raises.
    """
    every = np.concatenate([row.astype(np.float64) for row in rows]) if rows else np.zeros(0)
    if len(every) < 2:
        return [row * np.float32(not shift_mean) for row in rows]
    mean, variance = every.mean(), every.var(ddof=1)
    back = 0.0 if shift_mean else mean
    return [((row - mean) / np.sqrt(variance + _EPS_VARIANCE) + back).astype(np.float32) for row in rows]


def grouped(rewards: Floats, group: Numbers, *, scale_rewards: Scale = "group") -> Floats:
    """GRPO's advantages, (answers,): reward minus the mean of its group, divided by a standard deviation + 1e-4.

    ``group`` (answers,): number of the prompt, 0 …; groups may differ in size. ``scale_rewards``: the ``group``'s
    deviation (Shao et al. 2024, arXiv 2402.03300), that of all rewards (``batch``), or no division (``none``, Dr. GRPO,
    Liu et al. 2025, arXiv 2503.20783). Deviations divide by n − 1. NaN is a reward that could not be given: it is left
    out of means, and its advantage is 0. A group of one has the advantage 0.
    """
    known = ~np.isnan(rewards)
    exact = np.where(known, rewards, 0.0).astype(np.float64)
    groups = int(group.max()) + 1 if len(group) else 0
    count = np.bincount(group, weights=known, minlength=groups)
    mean = np.bincount(group, weights=exact, minlength=groups) / np.maximum(count, 1)
    centred = np.where(known, exact - mean[group], 0.0)
    if scale_rewards == "none":
        return centred.astype(np.float32)
    if scale_rewards == "batch":
        deviation = exact[known].std(ddof=1) if known.sum() > 1 else 0.0
        return (centred / (deviation + _EPS_DEVIATION)).astype(np.float32)
    squares = np.bincount(group, weights=centred**2, minlength=groups)
    deviations = np.sqrt(squares / np.maximum(count - 1, 1))
    return (centred / (deviations[group] + _EPS_DEVIATION)).astype(np.float32)


def explained_variance(values: Floats, returns: Floats) -> float:
    """1 − Var(R − V) / Var(R): 1 for a perfect value head, 0 for one no better than a constant, also when R is one."""
    spread = float(np.var(returns, dtype=np.float64))
    return 1 - float(np.var(returns - values, dtype=np.float64)) / spread if spread else 0.0


@dataclass(slots=True)
class AdaptiveKl:
    """A KL coefficient that follows the KL it leads to, Ziegler et al. 2019 (arXiv 1909.08593), section 2.2.

    κ ← κ (1 + e n / ``horizon``) with e = clip(kl / ``target`` − 1, −0.2, 0.2) after n answers with the mean KL ``kl``.
    """

    value: float
    """κ > 0, the coefficient; its start is TRL's former ``init_kl_coef``."""
    target: float = 6.0
    """Nats per answer."""
    horizon: float = 10000.0
    """Answers; larger moves slower."""

    def update(self, kl: float, answers: int) -> None:
        """Learn from ``answers`` answers whose KL was ``kl`` nats on average."""
        error = min(max(kl / self.target - 1, -_LARGEST_ERROR), _LARGEST_ERROR)
        self.value *= 1 + error * answers / self.horizon
