"""Optimizers and learning-rate schedules, from their catalog settings.

Optimizers are MLX's where its definition equals the reference (checked in ``tests/engine``). A
schedule is a function of the update's number: it returns the factor on the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.optimizers as mo
from mlx.utils import tree_flatten, tree_map

from training.engine.catalog.optimizers import OPTIMIZERS, AdamW, Lion, Sgd
from training.engine.catalog.rows import Settings
from training.engine.catalog.schedules import SCHEDULES, Constant, Cosine, Linear, Step

Factor = Callable[[int], float]


def build(settings: Settings, learning_rate: float) -> mo.Optimizer:
    """The optimizer that ``settings`` describe; the trainer sets its rate before each update."""
    made: mo.Optimizer = OPTIMIZERS[settings.name].load()(settings, learning_rate)
    return made


def schedule(settings: Settings, total: int) -> Factor:
    """The factor on the rate for update 0 … ``total`` − 1."""
    made: Factor = SCHEDULES[settings.name].load()(settings, total)
    return made


def adamw(s: AdamW, learning_rate: float) -> mo.Optimizer:
    return mo.AdamW(
        learning_rate,
        betas=list(s.betas),
        eps=s.eps,
        weight_decay=s.weight_decay,
        bias_correction=s.bias_correction,
    )


def sgd(s: Sgd, learning_rate: float) -> mo.Optimizer:
    return mo.SGD(learning_rate, momentum=s.momentum, nesterov=s.nesterov, weight_decay=s.weight_decay)


def lion(s: Lion, learning_rate: float) -> mo.Optimizer:
    return mo.Lion(learning_rate, betas=list(s.betas), weight_decay=s.weight_decay)


def _warmed(warmup: int, body: Factor) -> Factor:
    """Linear warm-up before ``body``, which counts from the end of the warm-up.

    Update s of a warm-up of W takes (s + 1) / (W + 1): the first update moves, and the full rate is
    reached once, by the first update of the body.
    """
    return lambda step: (step + 1) / (warmup + 1) if step < warmup else body(step - warmup)


def constant(s: Constant, total: int) -> Factor:
    return _warmed(s.warmup(total), lambda step: 1.0)


def linear(s: Linear, total: int) -> Factor:
    span = max(1, total - s.warmup(total))
    return _warmed(s.warmup(total), lambda step: 1.0 - (1.0 - s.end_ratio) * min(1.0, step / span))


def cosine(s: Cosine, total: int) -> Factor:
    span = max(1, total - s.warmup(total))

    def body(step: int) -> float:
        return s.end_ratio + (1.0 - s.end_ratio) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / span)))

    return _warmed(s.warmup(total), body)


def step(s: Step, total: int) -> Factor:
    return _warmed(s.warmup(total), lambda n: float(s.factor ** (n // s.every)))


def norm(gradients: object) -> mx.array:
    """Euclidean length of all gradients together, in float32. Shape ()."""
    squares = [mx.sum(mx.square(g.astype(mx.float32))) for _, g in tree_flatten(gradients)]
    return mx.sqrt(mx.sum(mx.stack(squares)))


def clip(gradients: object, length: mx.array, longest: float) -> object:
    """``gradients`` shortened to at most ``longest``; 0 leaves them alone.

    As torch's clip_grad_norm_: the factor is longest / (length + 1e-6), at most 1.
    """
    if longest <= 0:
        return gradients
    factor = mx.minimum(longest / (length + 1e-6), 1.0)
    return tree_map(lambda g: g * factor, gradients)
