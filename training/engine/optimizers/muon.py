"""Muon: momentum that is made orthogonal before it is used (Jordan et al. 2024), as torch.optim.Muon.

For matrices only; which weights those are says :class:`training.engine.catalog.optimizers.Muon`.
"""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.optimizers as mo

from training.engine.catalog import optimizers as catalog

#: Of the quintic a x + b x³ + c x⁵ whose slope at zero is as steep as can be.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
EPS = 1e-7


class Muon(mo.Optimizer):
    """θ ← (1 − ηλ) θ − η s · orthogonal(m), m the running mean of the gradient.

    s is √max(1, rows / columns) (``original``) or 0.2 √max(rows, columns) (``match_rms_adamw``, Liu et al.
    2025, arXiv 2502.16982: an update then is as large as one of AdamW). Rows are outputs, columns inputs.
    """

    def __init__(self, settings: catalog.Muon, learning_rate: float) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings = settings

    def init_single(self, parameter: mx.array, state: dict[str, mx.array]) -> None:
        """The momentum begins at zero."""
        state["v"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        """One update of one matrix (rows, columns)."""
        s, rate = self._settings, self.learning_rate
        v = state["v"] = s.momentum * state["v"] + (1 - s.momentum) * gradient
        update = (1 - s.momentum) * gradient + s.momentum * v if s.nesterov else v
        rows, columns = parameter.shape
        size = (
            math.sqrt(max(1, rows / columns)) if s.adjust_lr_fn == "original" else 0.2 * math.sqrt(max(rows, columns))
        )
        return parameter * (1 - rate * s.weight_decay) - rate * size * orthogonal(update, s.ns_steps)


def orthogonal(matrix: mx.array, steps: int) -> mx.array:
    """``matrix`` with all its singular values brought near 1 (0.5 … 1.5), by Newton–Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    # Products of another layout round differently: a resumed training has its arrays laid out anew.
    x = mx.contiguous(matrix.T if tall else matrix)
    x = x / mx.maximum(mx.sqrt(mx.sum(mx.square(x))), EPS)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x
