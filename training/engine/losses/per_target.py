"""Loss functions: one value per target, in nats, computed chunk by chunk.

Logits are (targets, vocabulary), mostly the largest array of a training. They are never held whole:
a chunk's values *and its gradient by the hidden states* are made in the forward pass, then its logits
are dropped, and the next chunk waits for that. The backward pass only multiplies by what comes
from above. (Liger Kernel's idea, Hsu et al. 2024, arXiv 2410.10989, without a kernel.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import mlx.core as mx

from training.engine.machine import cpu_math
from training.engine.models.heads import Head, Matrix

#: Numbers that a chunk of logits may have: 16 MiB in float32 on a CPU, about what its cache holds; a GPU
#: wants larger products (256 MiB).
CHUNK_NUMBERS = 1 << 22
CHUNK_NUMBERS_GPU = 1 << 26

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]
Values = Callable[..., mx.array]
WithGradient = Callable[..., tuple[mx.array, mx.array]]


def cross_entropy(
    head: Head, hidden: mx.array, targets: mx.array, *, label_smoothing: float = 0.0, z_loss: float = 0.0
) -> mx.array:
    """Cross-entropy at every target, (targets,), float32, differentiable in ``hidden`` and the head.

    ``hidden`` (targets, hidden) of any float type, ``targets`` (targets,) integers within the vocabulary:
    a foreign one would be read out of bounds without an error. ``label_smoothing`` ε in [0, 1) mixes the
    uniform distribution into the target (Szegedy et al. 2016, arXiv 1512.00567); ``z_loss`` ζ ≥ 0 adds
    ζ · (log Σ exp z)² (Chowdhery et al. 2022, arXiv 2204.02311).
    """
    if head.matrix is not None:
        matrix = head.matrix.unpacked()
        size = chunk(matrix.vocabulary)
        smooth = matrix.mean_row() if label_smoothing else None
        return by_chunks(_exact(matrix, smooth, label_smoothing, z_loss), size, hidden, targets)

    def values(hidden: mx.array, targets: mx.array) -> mx.array:
        return _cross_entropy(head.project(hidden), targets, label_smoothing, z_loss)

    return values(hidden, targets)


def log_probs(head: Head, hidden: mx.array, targets: mx.array) -> mx.array:
    """log p(target), (targets,): what preference and reinforcement methods sum up by row."""
    return -cross_entropy(head, hidden, targets)


def by_row(values: mx.array, batch_row: mx.array, rows: int) -> mx.array:
    """Sums of ``values`` (targets,) over each of ``rows`` rows, (rows,)."""
    return mx.zeros(rows, dtype=values.dtype).at[batch_row].add(values)


def divergence(
    kind: Divergence,
    student: tuple[Head, mx.array],
    teacher: tuple[Head, mx.array],
    *,
    temperature: float = 1.0,
    beta: float = 0.5,
) -> mx.array:
    """How far the student's distribution is from the teacher's at every target, (targets,), nats.

    ``student`` and ``teacher`` are heads with their hidden states (targets, hidden); only the student is
    differentiated. ``forward_kl`` is KL(teacher ‖ student), ``reverse_kl`` KL(student ‖ teacher), ``jsd`` the
    generalised Jensen–Shannon divergence β KL(teacher ‖ M) + (1 − β) KL(student ‖ M) with
    M = β · teacher + (1 − β) · student, 0 < β < 1 (Agarwal et al. 2024, arXiv 2306.13649; as in TRL).
    Logits are divided by ``temperature`` > 0; multiplying by its square is the caller's choice.
    """
    head, hidden = student
    other, seen = teacher

    def values(hidden: mx.array, seen: mx.array) -> mx.array:
        q = log_softmax(head.project(hidden) / temperature)
        p = mx.stop_gradient(log_softmax(other.project(seen) / temperature))
        return between(kind, p, q, beta)

    if head.matrix is None:
        return values(hidden, seen)
    return by_chunks(with_gradient(values), chunk(head.matrix.vocabulary) // 2, hidden, seen)


def between(kind: Divergence, p: mx.array, q: mx.array, beta: float) -> mx.array:
    """The divergence ``kind`` of the teacher's p and the student's q, both log-probabilities (…, vocabulary)."""
    if kind == "forward_kl":
        return _kl(p, q)
    if kind == "reverse_kl":
        return _kl(q, p)
    m = mx.logaddexp(p + math.log(beta), q + math.log(1 - beta))
    return beta * _kl(p, m) + (1 - beta) * _kl(q, m)


def _kl(p: mx.array, q: mx.array) -> mx.array:
    """KL(p ‖ q) of log-probabilities. A token without probability in p counts nothing: exp(−inf) · inf is NaN."""
    terms = mx.exp(p) * (p - q)
    return mx.sum(mx.where(mx.isinf(p), 0.0, terms), axis=-1)


def log_softmax(logits: mx.array) -> mx.array:
    """Log-probabilities over the last axis."""
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def _cross_entropy(logits: mx.array, targets: mx.array, smoothing: float, z_loss: float) -> mx.array:
    lse = mx.logsumexp(logits, axis=-1)
    value = lse - (1 - smoothing) * mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    if smoothing:
        value = value - smoothing * mx.mean(logits, axis=-1)
    return value + z_loss * mx.square(lse) if z_loss else value


def _exact(matrix: Matrix, mean_row: mx.array | None, smoothing: float, z_loss: float) -> WithGradient:
    """Cross-entropy with its gradient, written out.

    By a logit z_v the loss has the gradient p_v (1 + 2 ζ lse) − (1 − ε) [v = target] − ε / vocabulary. Through the
    matrix W the last two are rows of W, so no array of the size of the logits is made for them.
    """

    exp = cpu_math.exp if mx.default_device().type == mx.DeviceType.cpu else mx.exp

    def both(hidden: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
        logits = matrix.logits(hidden)
        highest = mx.max(logits, axis=-1, keepdims=True)
        weights = exp(logits - highest)
        total = mx.sum(weights, axis=-1)
        lse = highest[:, 0] + mx.log(total)
        value = lse - (1 - smoothing) * mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
        if smoothing:
            value = value - smoothing * mx.mean(logits, axis=-1)
        share = 1 / total  # p = weights · share, multiplied where it is small: behind the matrix
        if z_loss:
            value = value + z_loss * mx.square(lse)
            share = share * (1 + 2 * z_loss * lse)
        gradient = matrix.back(weights, hidden.dtype).astype(mx.float32) * share[:, None]
        gradient = gradient - (1 - smoothing) * matrix.rows(targets)
        if mean_row is not None:
            gradient = gradient - smoothing * mean_row
        return value, gradient.astype(_kept(hidden.dtype))

    return both


def with_gradient(values: Values) -> WithGradient:
    """``values`` together with their gradient by the first argument; each value depends on its own row only.

    Values (n, m) have the gradient of their first column.
    """

    def both(hidden: mx.array, *rest: mx.array) -> tuple[mx.array, mx.array]:
        def summed(hidden: mx.array) -> tuple[mx.array, mx.array]:
            each = values(hidden, *rest)
            return mx.sum(each if each.ndim == 1 else each[:, 0]), each

        (_, each), gradient = mx.value_and_grad(summed)(hidden)
        return each, gradient.astype(_kept(hidden.dtype))

    return both


def by_chunks(both: WithGradient, size: int, hidden: mx.array, *rest: mx.array) -> mx.array:
    """The values of ``both`` over all rows, at most ``size`` rows at a time, one chunk after the other.

    (n,), or (n, m), of which only the first column is differentiable.
    """

    @mx.custom_function
    def forward(hidden: mx.array, *rest: mx.array) -> tuple[mx.array, mx.array]:
        values: list[mx.array] = []
        gradients: list[mx.array] = []
        for start in range(0, hidden.shape[0], size):
            part = hidden[start : start + size]
            if gradients:
                # Without this, MLX makes the logits of all chunks before it drops the first ones.
                part = mx.depends(part, [values[-1], gradients[-1]])
            value, gradient = both(part, *(x[start : start + size] for x in rest))
            values.append(value)
            gradients.append(gradient)
        return mx.concatenate(values), mx.concatenate(gradients)

    @forward.vjp
    def backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        scale = cotangents[0].reshape(len(cotangents[0]), -1)[:, :1]
        gradient = (scale * outputs[1]).astype(primals[0].dtype)
        return (gradient, *(mx.zeros_like(x) for x in primals[1:]))

    made: Any = forward(hidden, *rest)
    return made[0]


def _kept(dtype: mx.Dtype) -> mx.Dtype:
    """Format of a gradient that waits for what comes from above: float16 would lose what a loss scale saves."""
    return mx.float32 if dtype == mx.float16 else dtype


def chunk(vocabulary: int) -> int:
    """Targets whose logits are held at once."""
    numbers = CHUNK_NUMBERS if mx.default_device().type == mx.DeviceType.cpu else CHUNK_NUMBERS_GPU
    return max(16, numbers // vocabulary)
