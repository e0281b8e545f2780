"""A head that makes one number of a hidden state: the score of a reward model, the value of a policy's state.

It is an attribute of the model, so that it is trained, saved and resumed like everything else. Stock mlx-lm reads
over it: the adapter beside it loads there as usual.
"""

from __future__ import annotations

import math

import mlx.core as mx
from mlx import nn

from training.engine.errors import ModelError
from training.engine.folders import places
from training.engine.models import heads

SCORE, VALUE, NAMES = places.SCORE, places.VALUE, places.HEADS
"""Names of the attributes. ``score`` is also that of transformers' AutoModelForSequenceClassification."""


class ScalarHead(nn.Module):
    """hidden · w, (…, hidden) → (…), float32."""

    def __init__(self, size: int) -> None:
        super().__init__()
        # As in Stiennon et al. 2020 (arXiv 2009.01325): scores of about 1 at the start, and no dead gradient.
        self.weight = mx.random.normal((1, size)) / math.sqrt(size + 1)

    def __call__(self, hidden: mx.array) -> mx.array:
        return hidden.astype(mx.float32) @ self.weight[0].astype(mx.float32)


def put(model: nn.Module, name: str, weight: mx.array | None = None) -> heads.Head:
    """Give ``model`` the head ``name``, with ``weight`` (1, hidden) if it is given; returns the model taken apart.

    Raises ModelError ``model.no_hidden_states`` for an architecture whose hidden states cannot be had.
    """
    head = heads.find(model)
    if head.body is model:
        raise ModelError(
            "model.no_hidden_states",
            "This architecture does not show its hidden states, and a score is made of them.",
            "Choose a model of another family, such as Llama, Qwen, Gemma or Mistral.",
        )
    size = int(head.body(mx.array([[1]])).shape[-1])
    made = ScalarHead(size)
    if weight is not None:
        made.weight = weight.reshape(1, size)
    setattr(model, name, made)
    mx.eval(made.parameters())
    return head


def of_ends(model: nn.Module, head: heads.Head, name: str, ids: mx.array, ends: mx.array) -> mx.array:
    """The head's number at each place of ``ends`` in ``ids.reshape(-1)``, (places,)."""
    hidden = head.body(ids)
    number: mx.array = getattr(model, name)(hidden.reshape(-1, hidden.shape[-1])[ends])
    return number
