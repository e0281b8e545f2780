"""What methods share that learn the next token: its cross-entropy over the tokens that a mask trains."""

from __future__ import annotations

import mlx.core as mx
from mlx import nn

from training.engine.learning.method import Method, Terms
from training.engine.losses import per_target
from training.engine.models import heads
from training.engine.rows.layouts import Batch


class NextToken(Method):
    """−Σ log p(x_t | x_<t), with smoothing and z-loss in the training, plain in evaluations."""

    is_likelihood = True

    def __init__(self, *, label_smoothing: float, z_loss: float) -> None:
        self._label_smoothing, self._z_loss = label_smoothing, z_loss
        self._head: heads.Head | None = None

    def prepare(self, model: nn.Module) -> None:
        self._head = heads.find(model)

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        assert self._head is not None, "prepare() comes first"
        # What shapes the training has no place in an evaluation: losses of two runs must be comparable.
        smoothing, z_loss = (self._label_smoothing, self._z_loss) if model.training else (0.0, 0.0)
        nats = per_target.cross_entropy(
            self._head, self._head.hidden(batch), batch.targets, label_smoothing=smoothing, z_loss=z_loss
        )
        return {"loss": mx.sum(mx.where(batch.counted > 0, nats, 0.0))}
