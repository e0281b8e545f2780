"""What PPO and GRPO share: answers to prompts, their rewards, and how likely policy and reference find them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from mlx import nn

from training.engine.catalog.policy_methods import PolicySettings
from training.engine.generation import answering
from training.engine.generation.answering import Answer, Answering
from training.engine.generation.sampling import Sampling
from training.engine.learning import reading
from training.engine.learning.notes import Desk
from training.engine.learning.online import Numbers, Online
from training.engine.learning.reading import Read
from training.engine.learning.reference import Reference
from training.engine.learning.rewards import Rewarded, Rewards
from training.engine.learning.shares import Shares
from training.engine.losses.advantages import Floats
from training.engine.models import heads
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows.batches import Rows
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Batch

OLD, REFERENCE = "old_log_probs", "reference_log_probs"
"""Names of the examples' arrays."""
_HELD_OUT = (20250406,)  # seed of the answers to held-out prompts


@dataclass(frozen=True, slots=True)
class Round:
    """The answers to a rollout's prompts, those to one prompt side by side, and all that is known of them."""

    answers: list[Answer]
    examples: list[Example]
    """Each answer behind its prompt, all of its tokens trained."""
    rewarded: Rewarded
    policy: Read
    reference: list[Floats] | None
    """Log-probabilities under the reference; None where the method has none."""

    def kl(self, estimator: Literal["k1", "k3"]) -> Floats:
        """KL to the reference of each answer, (answers,), nats, summed over its tokens."""
        assert self.reference is not None, "only with a reference"
        apart = [
            own.astype(np.float64) - other for own, other in zip(self.policy.log_probs, self.reference, strict=True)
        ]
        sums = [x.sum() if estimator == "k1" else (np.expm1(-x) + x).sum() for x in apart]
        return np.array(sums, dtype=np.float32)

    def told(self, estimator: Literal["k1", "k3"]) -> Numbers:
        """Means over the answers."""
        total = self.rewarded.total
        told = {
            "reward": float(total.mean()),
            "reward_std": float(total.std(ddof=1)) if len(total) > 1 else 0.0,
            **self.rewarded.means(),
            "answer_tokens": float(np.mean([one.tokens for one in self.answers])),
            "finished_share": float(np.mean([one.ended for one in self.answers])),
            "entropy": float(np.concatenate(self.policy.entropy).mean()),
        }
        return told if self.reference is None else {**told, "kl": float(self.kl(estimator).mean())}


class PolicyMethod(Online):
    """A method whose model answers prompts and learns from rewards."""

    goal = "reward"
    kl_estimator: Literal["k1", "k3"] = "k3"
    """Of the KL that is told."""
    refers: bool
    """Whether it compares with the model before the training."""

    def __init__(self, settings: PolicySettings) -> None:
        self._asked_for = settings
        self.grows = settings.max_completion_length
        self._temperature = settings.temperature
        self._shares = Shares()
        self._head: heads.Head | None = None

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
        return answering.prompt(row, tokenizer, max_seq_length)

    def prepare(self, model: nn.Module) -> None:
        self._head = heads.find(model)

    def annotate(self, model: nn.Module, splits: dict[str, Rows], desk: Desk) -> dict[str, Rows]:
        wanted = self._asked_for
        self._model, self._desk = model, desk
        self._rewards = Rewards.of(wanted, desk)
        self._rewards.refuse_unanswered(splits)
        drawn = Sampling(wanted.temperature, wanted.top_k, wanted.top_p)
        every = [row for rows in splits.values() for row in rows.rows]
        self._answering = Answering(model, desk.tokenizer, drawn, wanted.max_completion_length, every)
        self._reference = Reference(model) if self.refers else None
        if self._reference is not None and self._reference.bytes:
            kept = self._reference.bytes / (1 << 30)
            desk.say.log(f"The weights before the training stay in memory as the reference: {kept:.2f} GiB.")
        return splits

    def judge(self, prompts: Sequence[Example], check: Callable[[], None]) -> Numbers:
        with self._shares.span():
            return self.answered(prompts, 1, _HELD_OUT, check).told(self.kl_estimator)

    def log_probs(self, hidden: mx.array, batch: Batch) -> mx.array:
        """log π of the batch's targets, (targets,), at the temperature at which they were drawn."""
        assert self._head is not None, "prepare() comes first"
        return reading.log_probs(self._head, hidden, batch.targets, self._temperature)

    def answered(
        self, prompts: Sequence[Example], samples: int, seed: Sequence[int], check: Callable[[], None]
    ) -> Round:
        """``samples`` answers to each prompt, judged and read."""
        say, count = self._desk.say, samples * len(prompts)
        was_training = self._model.training
        self._model.eval()
        try:
            say.phase("answer", detail=f"{count} answers")
            with self._shares.span("generation"):
                answers = self._answering.answers(prompts, samples, seed, check)
            say.phase("score", detail=f"{count} answers")
            with self._shares.span("scoring"):
                return self._judged(answers, check)
        finally:
            self._model.train(was_training)

    def _judged(self, answers: list[Answer], check: Callable[[], None]) -> Round:
        rewarded = self._rewards.give(answers, check)
        examples = [one.example() for one in answers]
        policy, reference = self._read(examples, check, value=True), None
        if self._reference is not None:
            with self._reference.inside():
                reference = self._read(examples, check).log_probs
        return Round(answers, examples, rewarded, policy, reference)

    def _read(self, examples: list[Example], check: Callable[[], None], *, value: bool = False) -> Read:
        assert self._head is not None, "prepare() comes first"
        return reading.read(
            examples,
            self._head,
            self._desk.layout,
            self._desk.size,
            temperature=self._temperature,
            value=self.value if value else None,
            check=check,
        )

    @property
    def value(self) -> Callable[[mx.array], mx.array] | None:
        """Makes the value of a state out of hidden states (targets, hidden), where the method has values."""
        return None
