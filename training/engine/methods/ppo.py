"""Proximal policy optimisation: a value head says what to expect, and tokens that led beyond it become likelier.

Schulman et al. 2017, arXiv 1707.06347; for language models Ziegler et al. 2019, arXiv 1909.08593. The formulas:
``policy.py`` and ``advantages.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import mlx.core as mx
import numpy as np
from mlx import nn

from training.engine.catalog.policy_methods import Ppo as Settings
from training.engine.learning.method import Terms
from training.engine.learning.online import Collected, Numbers
from training.engine.learning.policies import OLD, PolicyMethod, Round
from training.engine.losses import advantages, policy
from training.engine.losses.advantages import AdaptiveKl, Floats
from training.engine.models import scalar_heads
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Batch

ADVANTAGES, RETURNS, VALUES = "advantages", "returns", "values"
_COEFFICIENT = "kl_coef"


class Ppo(PolicyMethod):
    """See the module."""

    terms = ("policy_loss", "value_loss", "clip_fraction", "value_clip_fraction", "approx_kl")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.prompts, self.samples, self.passes = settings.rollout_batch, 1, settings.num_ppo_epochs
        self.kl_estimator = settings.kl_estimator
        self.refers = settings.kl_coef > 0
        self._kl = AdaptiveKl(settings.kl_coef, settings.kl_target, settings.kl_horizon)

    def prepare(self, model: nn.Module) -> None:
        self._head = scalar_heads.put(model, scalar_heads.VALUE)
        # From 0 on, as in lm-human-preferences: values at random would be noise in the first advantages.
        head = getattr(model, scalar_heads.VALUE)
        head.weight = mx.zeros_like(head.weight)

    @property
    def value(self) -> Callable[[mx.array], mx.array]:
        head: Callable[[mx.array], mx.array] = getattr(self._model, scalar_heads.VALUE)
        return head

    def state(self) -> Numbers:
        return {_COEFFICIENT: self._kl.value}

    def restore(self, state: Mapping[str, float]) -> None:
        self._kl.value = state.get(_COEFFICIENT, self._kl.value)

    def collect(self, prompts: Sequence[Example], seed: Sequence[int], check: Callable[[], None]) -> Collected:
        shares = self._shares.turn()
        made = self.answered(prompts, 1, seed, check)
        rewards = self._rewards_by_token(made)
        examples, explained = self._examples(made, rewards)
        told = {**made.told(self.kl_estimator), "explained_variance": explained, _COEFFICIENT: self._kl.value}
        # Last, when nothing can interrupt any more: it is learnt once for each rollout.
        if self.settings.adaptive_kl:
            self._kl.update(told["kl"], len(made.answers))
        return Collected(examples, {**told, **shares})

    def _rewards_by_token(self, made: Round) -> list[Floats]:
        s = self.settings
        reference = made.policy.log_probs if made.reference is None else made.reference
        rewards = [
            advantages.kl_penalised(
                own,
                other,
                float(score),
                kl_coef=self._kl.value,
                kl_estimator=s.kl_estimator,
                ended=one.ended,
                missing_eos_penalty=s.missing_eos_penalty,
            )[0]
            for own, other, score, one in zip(
                made.policy.log_probs, reference, made.rewarded.total, made.answers, strict=True
            )
        ]
        return advantages.whitened(rewards, shift_mean=False) if s.whiten_rewards else rewards

    def _examples(self, made: Round, rewards: list[Floats]) -> tuple[list[Example], float]:
        """The answers with what each token's loss needs, and how well the values foresaw the returns."""
        s, values = self.settings, made.policy.values
        both = [advantages.gae(r, v, gamma=s.gamma, lam=s.lam) for r, v in zip(rewards, values, strict=True)]
        ahead, returns = [a for a, _ in both], [r for _, r in both]
        explained = advantages.explained_variance(np.concatenate(values), np.concatenate(returns))
        if s.whiten_advantages:
            ahead = advantages.whitened(ahead)
        examples = [
            one.noted({}, {OLD: old, ADVANTAGES: a, RETURNS: r, VALUES: v})
            for one, old, a, r, v in zip(made.examples, made.policy.log_probs, ahead, returns, values, strict=True)
        ]
        return examples, explained

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        assert self._head is not None, "prepare() comes first"
        s, hidden, more = self.settings, self._head.hidden(batch), batch.extra
        values = getattr(model, scalar_heads.VALUE)(hidden)
        now = self.log_probs(hidden, batch)
        moved, of_policy = policy.ppo_policy(now, more[OLD], more[ADVANTAGES], batch.counted, cliprange=s.cliprange)
        missed, of_values = policy.ppo_value(
            values, more[VALUES], more[RETURNS], batch.counted, cliprange_value=s.cliprange_value
        )
        sums = {name: mx.sum(each) for name, each in {**of_policy, **of_values}.items() if name in self.terms}
        policy_loss, value_loss = mx.sum(moved), mx.sum(missed)
        return {
            "loss": policy_loss + s.vf_coef * value_loss,
            "policy_loss": mx.stop_gradient(policy_loss),
            "value_loss": mx.stop_gradient(value_loss),
            **sums,
        }
