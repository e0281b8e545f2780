"""Group relative policy optimisation: answers to one prompt are compared with each other, nothing else is learnt.

Shao et al. 2024, arXiv 2402.03300; its relatives in :func:`training.engine.losses.policy.grpo`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np
from mlx import nn

from training.engine.catalog.policy_methods import Grpo as Settings
from training.engine.learning.method import Terms
from training.engine.learning.online import Collected
from training.engine.learning.policies import OLD, REFERENCE, PolicyMethod, Round
from training.engine.losses import advantages, policy
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Batch

ADVANTAGE = "advantage"


class Grpo(PolicyMethod):
    """See the module."""

    terms = ("clip_fraction", "clip_low", "clip_high")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.unit = policy.UNIT[settings.loss_type]
        self.prompts, self.samples, self.passes = (
            settings.rollout_batch,
            settings.num_generations,
            settings.num_iterations,
        )
        self.refers = settings.beta > 0

    def collect(self, prompts: Sequence[Example], seed: Sequence[int], check: Callable[[], None]) -> Collected:
        shares = self._shares.turn()
        made = self.answered(prompts, self.samples, seed, check)
        groups = made.rewarded.total.reshape(-1, self.samples)
        equal = np.ptp(groups, axis=1) == 0
        examples = self._examples(made, equal)
        told = made.told(self.kl_estimator)
        told |= {"reward_std": float(groups.std(axis=1, ddof=1).mean()), "equal_groups": float(equal.mean())}
        return Collected(examples, {**told, **shares})

    def _examples(self, made: Round, equal: np.ndarray) -> list[Example]:
        """The answers with their advantages; those that are left out teach nothing or are not there.

        ``equal`` (prompts,): the prompts whose answers have all the same reward.
        """
        s = self.settings
        group = np.repeat(np.arange(len(equal)), self.samples)
        ahead = advantages.grouped(made.rewarded.total, group, scale_rewards=s.scale_rewards)
        # Where nothing differs at all there would be no row to go on with: then everything is kept, and moves nothing.
        left_out = equal[group] & s.filter_groups & (not equal.all())
        found = []
        for i, one in enumerate(made.answers):
            if left_out[i]:
                continue
            trains = one.ended or not s.mask_truncated_completions
            arrays = {OLD: made.policy.log_probs[i]}
            if made.reference is not None:
                arrays[REFERENCE] = made.reference[i]
            arrays = arrays if trains else {name: values[:0] for name, values in arrays.items()}
            found.append(one.example(trains=trains).noted({ADVANTAGE: float(ahead[i])}, arrays))
        return found

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        del model  # the head that prepare() found is its
        assert self._head is not None, "prepare() comes first"
        s = self.settings
        each, terms = policy.grpo(
            self.log_probs(self._head.hidden(batch), batch),
            batch.extra[OLD],
            batch.numbers[ADVANTAGE],
            batch.row,
            batch.counted,
            loss_type=s.loss_type,
            importance_sampling_level=s.importance_sampling_level,
            epsilon=s.epsilon,
            epsilon_high=s.epsilon_high,
            beta=s.beta,
            reference=batch.extra.get(REFERENCE),
            max_completion_length=s.max_completion_length,
        )
        return {"loss": mx.sum(each), **{name: self._total(batch, terms[name]) for name in self.terms}}

    def _total(self, batch: Batch, values: mx.array) -> mx.array:
        """The sum of ``values`` (targets,), or where answers are the unit, of each answer's mean."""
        if self.unit == "token":
            return mx.sum(values)
        return mx.sum(batch.by_part(values, 1) / mx.maximum(batch.by_part(mx.ones_like(values), 1), 1))
