"""What a student loses against its teacher: with the teacher at hand, or with its likeliest tokens written down.

    loss = (1 − α) · T² · D(p, q) + α · cross-entropy of the data's token

p is the teacher's distribution, q the student's, both of logits divided by the temperature T; T² keeps the
share of the divergence's gradient as T changes (Hinton et al. 2015, arXiv 1503.02531, section 2). TRL's GKD
leaves T² out; at T = 1 they are the same. D: :func:`training.engine.losses.per_target.divergence`.

Written down are the teacher's k likeliest tokens and the probability of all others together. D then compares
k + 1 buckets, those tokens and the rest: with p_r = 1 − Σ p_i and q_r = 1 − Σ q_i over the k tokens, for forward KL

    D = Σ p_i (log p_i − log q_i) + p_r (log p_r − log q_r)

and in the same way for the others. Merging tokens never makes a divergence larger (Csiszár 1967), so this is a
lower bound that is exact for k = vocabulary; how the student shares out the rest is left to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx

from training.engine.losses.per_target import (
    Divergence,
    WithGradient,
    between,
    by_chunks,
    chunk,
    log_softmax,
    with_gradient,
)
from training.engine.machine import cpu_math
from training.engine.models.heads import Head, Matrix

_TINY = 1e-37  # stands for a probability that float32 cannot hold


@dataclass(frozen=True, slots=True)
class Aim:
    """What the student is drawn to. ``beta`` belongs to jsd; ``alpha`` in [0, 1] is cross-entropy's share."""

    divergence: Divergence
    temperature: float = 1.0
    beta: float = 0.5
    alpha: float = 0.0

    def loss(self, apart: mx.array, nats: mx.array) -> mx.array:
        """(targets, 3): the loss, then what it is made of."""
        whole = (1 - self.alpha) * self.temperature**2 * apart + self.alpha * nats
        return mx.stack([whole, apart, nats], axis=-1)


def whole(aim: Aim, student: tuple[Head, mx.array], teacher: tuple[Head, mx.array], targets: mx.array) -> mx.array:
    """Loss, divergence and cross-entropy at every target, (targets, 3), in nats; the first is differentiable.

    ``student`` and ``teacher`` are heads of one vocabulary with their hidden states (targets, hidden); only the
    student is differentiated.
    """
    head, hidden = student
    other, seen = teacher

    def values(hidden: mx.array, seen: mx.array, targets: mx.array) -> mx.array:
        logits = head.project(hidden)
        p = mx.stop_gradient(log_softmax(other.project(seen) / aim.temperature))
        apart = between(aim.divergence, p, log_softmax(logits / aim.temperature), aim.beta)
        return aim.loss(apart, _nats(logits, targets))

    if head.matrix is None:
        return values(hidden, seen, targets)
    return by_chunks(with_gradient(values), chunk(head.matrix.vocabulary) // 2, hidden, seen, targets)


def likeliest(head: Head, hidden: mx.array, k: int, temperature: float) -> tuple[mx.array, mx.array]:
    """The ``k`` likeliest tokens (targets, k), int32, and log-probabilities (targets, k + 1), float32.

    The last is that of all other tokens together, next to nothing where there are none. Evaluated chunk by chunk.
    """
    found, known = [], []
    size = chunk(head.project(hidden[:1]).shape[-1])
    for start in range(0, hidden.shape[0], size):
        logits = head.project(hidden[start : start + size]) / temperature
        ids = mx.argpartition(-logits, k - 1, axis=-1)[:, :k] if k < logits.shape[-1] else mx.argsort(-logits, axis=-1)
        log_p = _buckets(logits, ids)
        mx.eval(ids, log_p)
        found.append(ids.astype(mx.int32))
        known.append(log_p)
    return mx.concatenate(found), mx.concatenate(known)


def by_likeliest(
    aim: Aim, head: Head, hidden: mx.array, teacher: tuple[mx.array, mx.array], targets: mx.array
) -> mx.array:
    """As :func:`whole`, with what :func:`likeliest` made of the teacher at the same temperature."""
    ids, log_p = teacher

    def values(hidden: mx.array, ids: mx.array, log_p: mx.array, targets: mx.array) -> mx.array:
        logits = head.project(hidden)
        apart = between(aim.divergence, log_p, _buckets(logits / aim.temperature, ids), aim.beta)
        return aim.loss(apart, _nats(logits, targets))

    if head.matrix is None:
        return values(hidden, ids, log_p, targets)
    matrix = head.matrix.unpacked()
    return by_chunks(_exact(aim, matrix), chunk(matrix.vocabulary), hidden, ids, log_p, targets)


def _buckets(logits: mx.array, ids: mx.array) -> mx.array:
    """Log-probabilities of the tokens ``ids`` (n, k) and of all others together, (n, k + 1)."""
    others = mx.put_along_axis(logits, ids, mx.array(-math.inf, dtype=logits.dtype), axis=-1)
    some = mx.take_along_axis(logits, ids, axis=-1)
    # Without the tokens themselves: one minus their probabilities would be rounded away.
    rest = mx.logsumexp(others, axis=-1, keepdims=True) if ids.shape[-1] < logits.shape[-1] else None
    none = mx.full((*some.shape[:-1], 1), math.log(_TINY)) + mx.max(some, axis=-1, keepdims=True)
    known = mx.concatenate([some, none if rest is None else rest], axis=-1)
    return known - mx.logsumexp(known, axis=-1, keepdims=True)


def _nats(logits: mx.array, targets: mx.array) -> mx.array:
    return mx.logsumexp(logits, axis=-1) - mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]


def _exact(aim: Aim, matrix: Matrix) -> WithGradient:
    """:func:`by_likeliest` with its gradient, written out.

    With g_b = ∂D/∂ log q_b of bucket b and S = Σ g_b, a logit z_v has ∂D/∂z_v = (q_v / q_b(v)) g_b(v) − q_v S: for one
    of the k tokens g − q S, for the others q_v times the same number. So all but k numbers of the gradient are
    multiples of the exponentials that the forward pass has made, and it costs what cross-entropy's costs.
    """
    exp = cpu_math.exp if mx.default_device().type == mx.DeviceType.cpu else mx.exp
    heat = (1 - aim.alpha) * aim.temperature  # T² from the loss, 1 / T from the logits

    def both(hidden: mx.array, ids: mx.array, log_p: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
        logits = matrix.logits(hidden)
        scaled = logits if aim.temperature == 1 else logits / aim.temperature
        highest = mx.max(scaled, axis=-1, keepdims=True)
        others = mx.put_along_axis(exp(scaled - highest), ids, mx.array(0.0), axis=-1)
        some = mx.take_along_axis(scaled, ids, axis=-1) - highest
        rest = mx.maximum(mx.sum(others, axis=-1, keepdims=True), _TINY)
        log_total = mx.log(mx.sum(mx.exp(some), axis=-1, keepdims=True) + rest)
        log_q = mx.concatenate([some, mx.log(rest)], axis=-1) - log_total
        apart, ahead = _with_slope(aim, log_p, log_q)
        q, total = mx.exp(log_q), mx.sum(ahead, axis=-1, keepdims=True)
        top = heat * (ahead - q * total)[:, :-1]
        shared = heat * (ahead[:, -1:] / rest - total / mx.exp(log_total))
        if aim.temperature == 1:
            nats = (highest + log_total)[:, 0] - mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
            top, shared = top + aim.alpha * q[:, :-1], shared + aim.alpha / mx.exp(log_total)
            slope = mx.put_along_axis(others * shared, ids, top, axis=-1)
        else:
            nats = _nats(logits, targets)
            slope = mx.put_along_axis(others * shared, ids, top, axis=-1)
            if aim.alpha:
                level = (nats + mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0])[:, None]
                slope = slope + aim.alpha * exp(logits - level)
        gradient = matrix.back(slope, hidden.dtype).astype(mx.float32)
        if aim.alpha:
            gradient = gradient - aim.alpha * matrix.rows(targets)
        return aim.loss(apart, nats), gradient.astype(hidden.dtype)

    return both


def _with_slope(aim: Aim, log_p: mx.array, log_q: mx.array) -> tuple[mx.array, mx.array]:
    """The divergence (n,) and its gradient by ``log_q``, both of buckets (n, k + 1)."""

    def summed(log_q: mx.array) -> tuple[mx.array, mx.array]:
        each = between(aim.divergence, log_p, log_q, aim.beta)
        return mx.sum(each), each

    (_, each), slope = mx.value_and_grad(summed)(log_q)
    return each, slope
