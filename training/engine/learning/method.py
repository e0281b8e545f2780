"""What the loop asks of a method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import mlx.core as mx
from mlx import nn

from training.engine.learning.notes import Desk
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows.batches import Rows
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Batch

Terms = dict[str, mx.array]
"""Sums over a batch, float32, shape (): ``loss``, and the method's further terms."""


class Method(ABC):
    """One way to train. It knows neither files, optimizers nor steps."""

    unit: Literal["token", "example"] = "token"
    """What the loss is a mean over: an update divides the sum by all of its units."""
    terms: ClassVar[tuple[str, ...]] = ()
    """What :meth:`loss` tells beside the loss; each becomes a curve, and one of the held-out rows with ``val_``."""

    grows: int = 0
    """Tokens by which a sequence may grow before it is trained on."""
    is_likelihood: ClassVar[bool] = False
    """Whether the plain loss is a mean over tokens of −log p, whose exponential is the perplexity."""
    goal: ClassVar[str] = "loss"
    """The value of the held-out rows by which the best checkpoint is chosen: ``loss``, or a term of which more is
    better."""

    @abstractmethod
    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
        """One data row as tokens, with a flag for each whether the loss counts it."""

    def pieces(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> list[Example]:
        """All examples of a data row; mostly one."""
        return [self.encode(row, tokenizer, max_seq_length)]

    def keeps(self, example: Example) -> bool:
        """Whether ``example`` is of any use: it has something to train."""
        return example.teaches

    @abstractmethod
    def prepare(self, model: nn.Module) -> None:
        """Look at the model once, before anything is computed; a method's own head is put on here."""

    def annotate(self, model: nn.Module, splits: dict[str, Rows], desk: Desk) -> dict[str, Rows]:
        """``splits`` with what is computed once about each row, while ``model`` is as the training finds it."""
        del model, desk
        return splits

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        """The sums over the batch's units; ``loss`` is differentiable in the model.

        Pure in the model and the batch's arrays, because a GPU runs it compiled: no number of the batch is
        read out, and fillings (``batch.counted`` and ``batch.real`` 0) count nothing.
        """


def units(method: Method, batch: Batch) -> int:
    """How many of the method's units ``batch`` has."""
    return batch.tokens if method.unit == "token" else batch.examples
