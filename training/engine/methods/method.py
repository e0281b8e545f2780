"""What the loop asks of a method."""

from __future__ import annotations

from typing import Any, Protocol

import mlx.core as mx
from mlx import nn

from training.engine.layouts import Batch
from training.engine.masks import Encoded
from training.engine.tokenizer import Tokenizer


class Method(Protocol):
    """One way to train. It knows neither files, optimizers nor steps."""

    def encode(self, row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Encoded:
        """One data row as tokens, with a flag for each whether the loss counts it."""
        ...

    def prepare(self, model: nn.Module) -> None:
        """Look at the model once, before the first loss."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> mx.array:
        """The loss *summed* over the batch's trained tokens, shape (), float32, differentiable in the model.

        Pure in the model and the batch's arrays, because a GPU runs it compiled: no number of the batch is
        read out, and fillings (``batch.counted`` 0) count nothing.
        """
        ...
