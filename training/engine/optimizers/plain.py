"""Optimizers beside Adam's kin, as torch.optim and transformers define them: one array in, one array out.

Each class updates single arrays; :mod:`training.engine.optimizers.groups` hands them float32 gradients and weights.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.optimizers as mo

from training.engine.catalog import optimizers as catalog

Memory = dict[str, mx.array]


def lion(s: catalog.Lion, learning_rate: float) -> mo.Optimizer:
    """MLX's own: it is the paper's."""
    return mo.Lion(learning_rate, betas=list(s.betas), weight_decay=s.weight_decay)


def adafactor(s: catalog.Adafactor, learning_rate: float) -> mo.Optimizer:
    """MLX's own: it is transformers', once it is told to take the rate that it is given."""
    return mo.Adafactor(
        learning_rate,
        eps=s.eps,
        clip_threshold=s.clip_threshold,
        decay_rate=s.decay_rate,
        beta_1=s.beta1,
        weight_decay=s.weight_decay,
        scale_parameter=s.scale_parameter,
        relative_step=s.relative_step,
        warmup_init=s.warmup_init,
    )


class Sgd(mo.Optimizer):
    """θ ← θ − η b with b ← μ b + (1 − τ)(g + λθ), at first b = g + λθ; Nesterov: θ ← θ − η (g + λθ + μ b)."""

    def __init__(self, settings: catalog.Sgd, learning_rate: float) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings = settings

    def init_single(self, parameter: mx.array, state: Memory) -> None:
        """Without momentum there is nothing to remember."""
        if self._settings.momentum:
            state["v"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Memory) -> mx.array:
        """One update of one array."""
        s = self._settings
        g = gradient + s.weight_decay * parameter
        if not s.momentum:
            return parameter - self.learning_rate * g
        kept = mx.where(self.step == 1, 1.0, 1 - s.dampening) * g if s.dampening else g
        v = state["v"] = s.momentum * state["v"] + kept
        return parameter - self.learning_rate * (g + s.momentum * v if s.nesterov else v)


class RmsProp(mo.Optimizer):
    """θ ← θ − η g / (√v + ε), v the running mean of g²; centred: √(v − ḡ²); with momentum: b ← μ b + that quotient."""

    def __init__(self, settings: catalog.RmsProp, learning_rate: float) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings = settings

    def init_single(self, parameter: mx.array, state: Memory) -> None:
        """Only what the settings need."""
        s = self._settings
        for name in ["v", *["mean"] * s.centered, *["b"] * (s.momentum > 0)]:
            state[name] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Memory) -> mx.array:
        """One update of one array."""
        s = self._settings
        g = gradient + s.weight_decay * parameter
        v = state["v"] = s.alpha * state["v"] + (1 - s.alpha) * mx.square(g)
        if s.centered:
            mean = state["mean"] = s.alpha * state["mean"] + (1 - s.alpha) * g
            v = mx.maximum(v - mx.square(mean), 0.0)  # rounding can bring it below zero, where it has no root
        quotient = g / (mx.sqrt(v) + s.eps)
        if s.momentum:
            quotient = state["b"] = s.momentum * state["b"] + quotient
        return parameter - self.learning_rate * quotient


class Adagrad(mo.Optimizer):
    """θ ← θ − η / (1 + (t − 1) δ) · g / (√s + ε) with s the sum of all g²."""

    def __init__(self, settings: catalog.Adagrad, learning_rate: float) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings = settings

    def init_single(self, parameter: mx.array, state: Memory) -> None:
        """The sum begins where the settings say."""
        state["v"] = mx.full(parameter.shape, self._settings.initial_accumulator_value)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Memory) -> mx.array:
        """One update of one array."""
        s = self._settings
        g = gradient + s.weight_decay * parameter
        rate = self.learning_rate / (1 + (self.step.astype(mx.float32) - 1) * s.lr_decay)
        v = state["v"] = state["v"] + mx.square(g)
        return parameter - rate * g / (mx.sqrt(v) + s.eps)


class AdaDelta(mo.Optimizer):
    """θ ← θ − η Δ with Δ = √(u + ε) / √(v + ε) · g; v and u the running means of g² and Δ² (Zeiler 2012)."""

    def __init__(self, settings: catalog.AdaDelta, learning_rate: float) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings = settings

    def init_single(self, parameter: mx.array, state: Memory) -> None:
        """v and u begin at zero."""
        state["v"], state["u"] = mx.zeros_like(parameter), mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Memory) -> mx.array:
        """One update of one array."""
        s = self._settings
        g = gradient + s.weight_decay * parameter
        v = state["v"] = s.rho * state["v"] + (1 - s.rho) * mx.square(g)
        change = mx.sqrt(state["u"] + s.eps) / mx.sqrt(v + s.eps) * g
        state["u"] = s.rho * state["u"] + (1 - s.rho) * mx.square(change)
        return parameter - self.learning_rate * change
