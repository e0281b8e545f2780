"""Logits only where a target is.

The last matrix of a language model, hidden size times vocabulary, is the largest one of a small model,
and a training needs its product at the trained positions only: often half of them, sometimes a tenth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx import nn


@dataclass(frozen=True, slots=True)
class Head:
    """A model taken apart: ``project(body(ids))`` are its logits."""

    body: Callable[[mx.array], mx.array]
    """(rows, length) of ids → (rows, length, hidden)."""
    project: Callable[[mx.array], mx.array]
    """(…, hidden) → (…, vocabulary)."""


def find(model: nn.Module) -> Head | None:
    """``model`` taken apart, or None where it does more than body and matrix (soft caps, scales).

    Most of mlx-lm's families are a ``model`` and an ``lm_head``, or the embedding used backwards. That
    this one is, is tried on a few tokens rather than believed.
    """
    body = getattr(model, "model", None)
    project = _projection(model, body)
    if not isinstance(body, nn.Module) or project is None:
        return None
    was_training, ids = model.training, mx.array([[1, 2, 3, 1]])
    model.eval()
    try:
        whole, parts = model(ids), project(body(ids))
        same = whole.shape == parts.shape and bool(mx.allclose(whole, parts, rtol=1e-3, atol=1e-3).item())
    except (ValueError, TypeError, AttributeError, RuntimeError):
        same = False  # called in another way: the model as a whole will do
    finally:
        model.train(was_training)
    return Head(body, project) if same else None


def logits_at(head: Head, ids: mx.array, positions: mx.array) -> mx.array:
    """Logits at the flat ``positions`` (n,) of ``ids`` (rows, length). Shape (n, vocabulary)."""
    hidden = head.body(ids)
    return head.project(hidden.reshape(-1, hidden.shape[-1])[positions])


def _projection(model: nn.Module, body: Any) -> Callable[[mx.array], mx.array] | None:
    own = getattr(model, "lm_head", None)
    if isinstance(own, nn.Module):
        return own
    embedding = getattr(body, "embed_tokens", None)
    return getattr(embedding, "as_linear", None)
