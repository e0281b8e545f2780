"""Adam and its kin, as torch.optim defines them: one array in, one array out, all in float32.

Each class updates single arrays; :mod:`training.engine.optimizers.groups` hands them float32 gradients and weights.
"""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.optimizers as mo

from training.engine.catalog import optimizers as catalog

Memory = dict[str, mx.array]


def adamw(s: catalog.AdamW, learning_rate: float) -> mo.Optimizer:
    """MLX's own, with the bias correction that it leaves off by default."""
    return mo.AdamW(
        learning_rate,
        betas=list(s.betas),
        eps=s.eps,
        weight_decay=s.weight_decay,
        bias_correction=s.bias_correction,
    )


def missing(beta: float, step: mx.array) -> mx.array:
    """1 − beta^step: what a running mean lacks that began at zero. Shape (); exact also where beta is near 1."""
    return -mx.expm1(step.astype(mx.float32) * math.log(beta)) if beta else mx.array(1.0)


class Adam(mo.Optimizer):
    """θ ← θ − η m̂ / (√v̂ + ε) with g + λθ for g (Kingma and Ba 2015, algorithm 1).

    ``amsgrad``: v̂ is the largest v so far, corrected (Reddi et al. 2018, as torch corrects it).
    """

    def __init__(self, settings: catalog.Adam, learning_rate: float) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings = settings

    def init_single(self, parameter: mx.array, state: Memory) -> None:
        """m and v begin at zero."""
        for name in ("m", "v", "v_max") if self._settings.amsgrad else ("m", "v"):
            state[name] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Memory) -> mx.array:
        """One update of one array."""
        s = self._settings
        m, v = moments(gradient + s.weight_decay * parameter, state, s.betas)
        if s.amsgrad:
            v = state["v_max"] = mx.maximum(state["v_max"], v)
        length = mx.sqrt(v / missing(s.betas[1], self.step)) + s.eps
        return parameter - self.learning_rate / missing(s.betas[0], self.step) * m / length


class Adamax(mo.Optimizer):
    """θ ← θ − η / (1 − β₁ᵗ) · m / u with u ← max(β₂ u, |g| + ε) (Kingma and Ba 2015, algorithm 2)."""

    def __init__(self, settings: catalog.Adamax, learning_rate: float) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings = settings

    def init_single(self, parameter: mx.array, state: Memory) -> None:
        """m and u begin at zero."""
        state["m"], state["u"] = mx.zeros_like(parameter), mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Memory) -> mx.array:
        """One update of one array."""
        s, (b1, b2) = self._settings, self._settings.betas
        g = gradient + s.weight_decay * parameter
        m = state["m"] = b1 * state["m"] + (1 - b1) * g
        u = state["u"] = mx.maximum(b2 * state["u"], mx.abs(g) + s.eps)
        return parameter - self.learning_rate / missing(b1, self.step) * m / u


class NAdam(mo.Optimizer):
    """Adam whose step mixes the gradient with the momentum after it (Dozat 2016), μₜ = β₁ (1 − ½ · 0.96^(tψ))."""

    def __init__(self, settings: catalog.NAdam, learning_rate: float) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings = settings

    def init_single(self, parameter: mx.array, state: Memory) -> None:
        """m and v begin at zero, the product of all μ at one."""
        state["m"], state["v"] = mx.zeros_like(parameter), mx.zeros_like(parameter)
        state["mu_product"] = mx.array(1.0)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Memory) -> mx.array:
        """One update of one array."""
        s, rate, t = self._settings, self.learning_rate, self.step.astype(mx.float32)
        g, w = decayed(gradient, parameter, rate, s.weight_decay, decoupled=s.decoupled_weight_decay)
        mu, after = (s.betas[0] * (1 - 0.5 * mx.power(0.96, n * s.momentum_decay)) for n in (t, t + 1))
        product = state["mu_product"] = state["mu_product"] * mu
        m, v = moments(g, state, s.betas)
        length = mx.sqrt(v / missing(s.betas[1], self.step)) + s.eps
        return w - rate * ((1 - mu) / (1 - product) * g + after / (1 - product * after) * m) / length


class RAdam(mo.Optimizer):
    """Adam times r(t) once its running square rests on more than 5 gradients, plain momentum before.

    Liu et al. 2020, algorithm 2, with torch's bound of 5.
    """

    def __init__(self, settings: catalog.RAdam, learning_rate: float) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings = settings
        self._first = first_rectified(settings.betas[1])

    def init_single(self, parameter: mx.array, state: Memory) -> None:
        """m and v begin at zero."""
        state["m"], state["v"] = mx.zeros_like(parameter), mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Memory) -> mx.array:
        """One update of one array."""
        s, rate, (b1, b2) = self._settings, self.learning_rate, self._settings.betas
        g, w = decayed(gradient, parameter, rate, s.weight_decay, decoupled=s.decoupled_weight_decay)
        m, v = moments(g, state, s.betas)
        mean = m / missing(b1, self.step)
        if self._first is None:
            return w - rate * mean
        left, end = missing(b2, self.step), 2 / (1 - b2) - 1
        # From the first rectified update on it is above 5; before, any number that has a root will do.
        count = mx.maximum(end - 2 * self.step.astype(mx.float32) * (1 - left) / left, 5.0)
        share = mx.sqrt((count - 4) * (count - 2) * end / ((end - 4) * (end - 2) * count))
        adapted = share * mx.sqrt(left) / (mx.sqrt(v) + s.eps)
        return w - rate * mean * mx.where(self.step >= self._first, adapted, 1.0)


def first_rectified(beta: float) -> int | None:
    """The first update whose running square counts as more than 5 gradients; None: there is none.

    Found in float64: in float32 it would be off by an update for a beta near 1.
    """
    end = 2 / (1 - beta) - 1
    if end <= 5:
        return None
    step = 1
    while end - 2 * step * beta**step / (1 - beta**step) <= 5:
        step += 1
    return step


def moments(g: mx.array, state: Memory, betas: tuple[float, float]) -> tuple[mx.array, mx.array]:
    """The running means of ``g`` and of its square, taken on by one and kept in ``state``."""
    b1, b2 = betas
    state["m"] = b1 * state["m"] + (1 - b1) * g
    state["v"] = b2 * state["v"] + (1 - b2) * mx.square(g)
    return state["m"], state["v"]


def decayed(
    gradient: mx.array, parameter: mx.array, rate: mx.array, decay: float, *, decoupled: bool
) -> tuple[mx.array, mx.array]:
    """Gradient and weights after weight decay: on the weights if ``decoupled``, else as an L2 penalty."""
    if decoupled:
        return gradient, parameter * (1 - rate * decay)
    return gradient + decay * parameter, parameter
