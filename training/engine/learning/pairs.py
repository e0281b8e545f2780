"""What methods share that learn from answers rather than from tokens: encoding, log-probabilities, a reference.

An answer's log-probability is the sum over its own tokens, end-of-turn token included, given the prompt. The
reference is the model as the training finds it, before the first step and with adapters that do nothing yet;
its log-probabilities are computed once, so it takes no memory in the training (see notes.py).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine.learning.method import Method, Terms
from training.engine.learning.notes import Desk, Per
from training.engine.losses import per_target
from training.engine.losses.preferences import Pair
from training.engine.models import heads
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows import masks
from training.engine.rows.batches import Rows
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Batch

TERMS = ("reward_chosen", "reward_rejected", "reward_accuracy", "reward_margin")
"""What the losses of :mod:`training.engine.losses.preferences` report of a pair."""
CHOSEN, REJECTED = "reference_chosen", "reference_rejected"


class Answers(Method):
    """A method whose loss is a mean over rows and depends on whole answers' log-probabilities."""

    unit = "example"
    _head: heads.Head | None = None

    def prepare(self, model: nn.Module) -> None:
        self._head = heads.find(model)

    def log_probs(self, batch: Batch, parts: int) -> tuple[mx.array, mx.array]:
        """Of each answer: its log-probability in nats, and its number of tokens; (examples, parts) both."""
        assert self._head is not None, "prepare() comes first"
        each = per_target.log_probs(self._head, self._head.hidden(batch), batch.targets)
        return batch.by_part(each, parts), batch.by_part(mx.ones_like(each), parts)


class Pairs(Answers):
    """A method that compares a chosen with a rejected answer."""

    terms = TERMS

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
        return pair(row, tokenizer, max_seq_length)

    @abstractmethod
    def compare(self, policy: Pair, tokens: Pair, batch: Batch) -> tuple[mx.array, Terms]:
        """The loss of each pair and what is reported of it, of log-probabilities and numbers of tokens."""

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        del model  # the head that prepare() found is its
        policy, tokens = self.both(batch)
        return summed(batch, *self.compare(policy, tokens, batch))

    def both(self, batch: Batch) -> tuple[Pair, Pair]:
        """Log-probabilities of (chosen, rejected), and their numbers of tokens."""
        sums, tokens = self.log_probs(batch, 2)
        return (sums[:, 0], sums[:, 1]), (tokens[:, 0], tokens[:, 1])

    def with_reference(self, splits: dict[str, Rows], desk: Desk) -> dict[str, Rows]:
        """``splits`` with the log-probabilities that the model gives now, under CHOSEN and REJECTED."""

        def compute(batch: Batch) -> dict[tuple[Per, str], mx.array]:
            (chosen, rejected), _ = self.both(batch)
            return {("example", CHOSEN): chosen, ("example", REJECTED): rejected}

        return {name: desk.noted(name, rows, "log-probabilities", {}, compute) for name, rows in splits.items()}


def pair(row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
    """The chosen and the rejected answer behind the same prompt."""
    texts = (row["chosen"], row["rejected"])
    return Example(tuple(masks.answer(row["prompt"], text, tokenizer, max_seq_length) for text in texts))


def summed(batch: Batch, loss: mx.array, terms: Terms) -> Terms:
    """Values for each example, (examples,), summed over the real ones."""
    sums: Callable[[mx.array], mx.array] = lambda x: mx.sum(mx.where(batch.real > 0, x, 0.0))  # noqa: E731
    return {"loss": sums(loss), **{name: sums(value) for name, value in terms.items()}}
