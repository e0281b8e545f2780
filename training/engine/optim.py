"""Optimizers and learning-rate schedules, from their catalog settings.

Optimizers are MLX's where its definition equals the reference (checked in ``tests/engine``). A
schedule is a function of the update's number: it returns the factor on the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

import mlx.core as mx
import mlx.optimizers as mo
from mlx.utils import tree_flatten, tree_map

from training.engine.catalog.optimizers import OPTIMIZERS, AdamW, Lion, Sgd
from training.engine.catalog.rows import Settings
from training.engine.catalog.schedules import SCHEDULES, Warmed

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


def curve(s: Warmed, total: int) -> Factor:
    """Every schedule draws its own curve; see ``multiplier`` in the catalog."""
    return lambda update: s.multiplier(update, total)


def norm(gradients: object) -> mx.array:
    """Euclidean length of all gradients together, in float32. Shape ().

    Summed up by name: a tree that was read back from a file has another order, and sums would round differently.
    """
    named = sorted(tree_flatten(gradients), key=itemgetter(0))
    squares = [mx.sum(mx.square(g.astype(mx.float32))) for _, g in named]
    return mx.sqrt(mx.sum(mx.stack(squares)))


def clip(gradients: object, length: mx.array, longest: float) -> object:
    """``gradients`` shortened to at most ``longest``; 0 leaves them alone.

    As torch's clip_grad_norm_: the factor is longest / (length + 1e-6), at most 1. Number formats stay as
    they are: a float32 factor would otherwise turn 16-bit gradients, and with them the weights, into float32.
    """
    if longest <= 0:
        return gradients
    factor = mx.minimum(longest / (length + 1e-6), 1.0)
    return tree_map(lambda g: (g * factor).astype(g.dtype), gradients)
