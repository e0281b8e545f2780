"""Adam, AdamW and Lion that remember in 8 bits: a quarter of their memory, the same course.

The running means are kept as one byte a number, in blocks with a scale each (Dettmers et al. 2022,
arXiv 2110.02861). Small numbers matter as much as large ones here, so the codes lie close together near
zero: code c of a mean stands for ±(c / 127)² of its block's largest number, of a mean of squares for
(c / 255)⁴. Between two codes it is rounded up in that share of the updates which the number's place
between them says. Rounded to the nearest, a mean that changes by a thousandth an update would stand still.
"""

from __future__ import annotations

from typing import ClassVar

import mlx.core as mx
import mlx.optimizers as mo

from training.engine.catalog.optimizers import Adam8Bit, AdamW8Bit, Lion8Bit
from training.engine.optimizers.adam import Memory, decayed, missing

BLOCK = 128  # numbers that share a scale: 1.03 bytes a weight for each running mean
#: Smaller arrays stay in float32, as in bitsandbytes: they weigh nothing, and norms and biases are touchy.
SMALLEST = 4096

_SIGNED, _UNSIGNED = (127, 2), (255, 4)  # highest code, and the power of its law
_GOLDEN = (2654435769, 1640531527)  # steps of a sequence that fills an interval evenly, out of 2³²


def adamw(s: AdamW8Bit, learning_rate: float) -> mo.Optimizer:
    """What the catalog's row ``adamw_8bit`` means."""
    return Adam8bit(s, learning_rate, decoupled=True, bias_correction=s.bias_correction)


def adam(s: Adam8Bit, learning_rate: float) -> mo.Optimizer:
    """What the catalog's row ``adam_8bit`` means."""
    return Adam8bit(s, learning_rate, decoupled=False)


def lion(s: Lion8Bit, learning_rate: float) -> mo.Optimizer:
    """What the catalog's row ``lion_8bit`` means."""
    return Lion8bit(s, learning_rate)


class Packed(mo.Optimizer):
    """An optimizer whose running means are bytes. All of its arithmetic is float32, whatever the weights are."""

    laws: ClassVar[dict[str, tuple[int, int]]]
    """The running means by name, and how each is packed."""

    def init_single(self, parameter: mx.array, state: Memory) -> None:
        """The empty memory of one array."""
        for name, law in self.laws.items():
            if parameter.size < SMALLEST:
                state[name] = mx.zeros(parameter.shape)
                continue
            blocks = -(-parameter.size // BLOCK)
            state[name] = mx.zeros((blocks, BLOCK), dtype=mx.int8 if law == _SIGNED else mx.uint8)
            state[f"{name}_scale"] = mx.zeros((blocks, 1))

    def recalled(self, name: str, state: Memory, like: mx.array) -> mx.array:
        """The running mean ``name`` in the shape of ``like``."""
        small = f"{name}_scale" not in state
        return state[name] if small else unpack(state[name], state[f"{name}_scale"], self.laws[name], like)

    def keep(self, name: str, value: mx.array, state: Memory) -> None:
        """Put the running mean ``name`` back."""
        if f"{name}_scale" not in state:
            state[name] = value
            return
        share = _shares(state[name].shape, self.step)
        state[name], state[f"{name}_scale"] = pack(value, self.laws[name], share)


class Adam8bit(Packed):
    """Adam (L2 penalty) or AdamW (``decoupled`` decay); see the module."""

    laws: ClassVar[dict[str, tuple[int, int]]] = {"m": _SIGNED, "v": _UNSIGNED}

    def __init__(
        self, settings: Adam8Bit | AdamW8Bit, learning_rate: float, *, decoupled: bool, bias_correction: bool = True
    ) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings, self._decoupled, self._corrects = settings, decoupled, bias_correction

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Memory) -> mx.array:
        """One update of one array (Loshchilov and Hutter 2019, algorithm 2)."""
        s, rate, (b1, b2) = self._settings, self.learning_rate, self._settings.betas
        g, w = decayed(gradient, parameter, rate, s.weight_decay, decoupled=self._decoupled)
        m = b1 * self.recalled("m", state, g) + (1 - b1) * g
        v = b2 * self.recalled("v", state, g) + (1 - b2) * mx.square(g)
        self.keep("m", m, state)
        self.keep("v", v, state)
        if self._corrects:
            m, v = m / missing(b1, self.step), v / missing(b2, self.step)
        return w - rate * m / (mx.sqrt(v) + s.eps)


class Lion8bit(Packed):
    """Lion (Chen et al. 2023, algorithm 2) with its momentum in bytes."""

    laws: ClassVar[dict[str, tuple[int, int]]] = {"m": _SIGNED}

    def __init__(self, settings: Lion8Bit, learning_rate: float) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings = settings

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Memory) -> mx.array:
        """One update of one array."""
        s, rate, (b1, b2) = self._settings, self.learning_rate, self._settings.betas
        m = self.recalled("m", state, gradient)
        self.keep("m", b2 * m + (1 - b2) * gradient, state)
        return parameter * (1 - rate * s.weight_decay) - rate * mx.sign(b1 * m + (1 - b1) * gradient)


def pack(x: mx.array, law: tuple[int, int], share: mx.array) -> tuple[mx.array, mx.array]:
    """``x`` of any shape as codes (blocks, BLOCK) and scales (blocks, 1).

    ``share`` (blocks, BLOCK) in [0, 1) decides where to round up.
    """
    most, power = law
    flat = mx.pad(x.reshape(-1), (0, share.size - x.size)).reshape(share.shape)
    size = mx.abs(flat)
    scale = mx.max(size, axis=1, keepdims=True)
    ratio = mx.where(scale > 0, size / mx.where(scale > 0, scale, 1), 0)
    below = mx.minimum(mx.floor(most * mx.power(ratio, 1 / power)), most - 1)
    low, high = mx.power(below / most, power), mx.power((below + 1) / most, power)
    code = below + ((ratio - low) / (high - low) > share)
    if power == _SIGNED[1]:
        return (code * mx.sign(flat)).astype(mx.int8), scale
    # A square that is forgotten while its mean is not would be divided by: it stays at the lowest code.
    return mx.where(size > 0, mx.maximum(code, 1), 0).astype(mx.uint8), scale


def unpack(codes: mx.array, scale: mx.array, law: tuple[int, int], like: mx.array) -> mx.array:
    """The numbers behind ``codes`` in the shape of ``like``, float32."""
    most, power = law
    c = codes.astype(mx.float32) / most
    value = c * mx.abs(c) if power == _SIGNED[1] else mx.square(mx.square(c))
    return (value * scale).reshape(-1)[: like.size].reshape(like.shape)


def _shares(shape: tuple[int, ...], step: mx.array) -> mx.array:
    """A number in [0, 1) for each place and update, evenly spread over places and over updates.

    Made of their numbers alone: nothing is drawn, nothing has to be remembered for a resume.
    """
    places = mx.arange(shape[0] * shape[1], dtype=mx.uint32).reshape(shape)
    turned = places * mx.array(_GOLDEN[0], mx.uint32) + step.astype(mx.uint32) * mx.array(_GOLDEN[1], mx.uint32)
    return (turned >> 8).astype(mx.float32) / (1 << 24)
