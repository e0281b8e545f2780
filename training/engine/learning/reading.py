"""What a model says of given tokens: log-probabilities, entropy, values; in batches, without gradients.

The forward pass is the training's own, with the same layout, so that an update that follows at once finds the
ratio of its probabilities to these to be 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from training.engine.losses import per_target, policy
from training.engine.losses.advantages import Floats
from training.engine.machine import cpu_math
from training.engine.models.heads import Head
from training.engine.rows import segments
from training.engine.rows.batches import Rows, Size, batches_in_order
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Layout


@dataclass(frozen=True, slots=True)
class Read:
    """Of each example, one number for each of its targets, float32. ``values`` are empty where none were asked for."""

    log_probs: list[Floats]
    entropy: list[Floats]
    values: list[Floats]


def tempered(head: Head, hidden: mx.array, temperature: float) -> tuple[Head, mx.array]:
    """Head and hidden states whose logits are those of ``head`` divided by ``temperature`` > 0."""
    if temperature == 1:
        return head, hidden
    if head.matrix is not None and "bias" not in head.matrix.module:
        return head, hidden / temperature
    return replace(head, project=lambda h: head.project(h) / temperature, matrix=None), hidden


def log_probs(head: Head, hidden: mx.array, targets: mx.array, temperature: float) -> mx.array:
    """log p(target) at ``temperature``, (targets,), differentiable."""
    return per_target.log_probs(*tempered(head, hidden, temperature), targets)


def read(
    examples: Sequence[Example],
    head: Head,
    layout: Layout,
    size: Size,
    *,
    temperature: float = 1.0,
    value: Callable[[mx.array], mx.array] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Read:
    """Read ``examples``, each with a target at least. ``value`` makes a number of hidden states (targets, hidden).

    ``check`` is called before each batch and may raise. Dropout must be off.
    """
    none = np.zeros(0, dtype=np.float32)
    found = [[none] * len(examples) for _ in range(3)]
    for numbers in batches_in_order(Rows(list(examples), 0, 0), size):
        check()
        batch = layout.lay([examples[i] for i in numbers])
        with segments.cut(batch.cuts):
            hidden = head.hidden(batch)
            made = [*_chunks(head, hidden, batch.targets, temperature)]
            if value is not None:
                made.append(value(hidden))
            mx.eval(made)
        ends = np.cumsum([examples[i].targets for i in numbers])
        for own, array in zip(found, made, strict=False):
            parts = np.split(np.array(array.astype(mx.float32))[: ends[-1]], ends[:-1])
            for number, part in zip(numbers, parts, strict=True):
                own[number] = part
    return Read(*found)


def _chunks(head: Head, hidden: mx.array, targets: mx.array, temperature: float) -> tuple[mx.array, mx.array]:
    """Log-probabilities and entropies; the logits of a few targets at a time."""
    head, hidden = tempered(head, hidden, temperature)
    size = per_target.chunk(head.matrix.vocabulary) if head.matrix is not None else max(1, len(targets))
    made: list[tuple[mx.array, mx.array]] = []
    for start in range(0, len(targets), size):
        logits = head.project(hidden[start : start + size])
        made.append(_said(logits, targets[start : start + size]))
        mx.eval(made[-1])
    return mx.concatenate([said for said, _ in made]), mx.concatenate([spread for _, spread in made])


def _said(logits: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    """log p(target) and the entropy in nats of each row of ``logits`` (n, vocabulary)."""
    chosen = mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    if mx.default_device().type != mx.DeviceType.cpu:
        return chosen - mx.logsumexp(logits, axis=-1), policy.entropy(logits)
    highest = mx.max(logits, axis=-1, keepdims=True)
    moved = logits - highest
    weights = cpu_math.exp(moved)
    total = mx.sum(weights, axis=-1)
    # −88 is beyond what a weight in float32 can be: what is ruled out (−∞) counts 0.
    spread = mx.sum(weights * mx.maximum(moved, -88.0), axis=-1) / total
    return chosen - highest[:, 0] - mx.log(total), mx.log(total) - spread
