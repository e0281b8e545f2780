"""AdamW that remembers in 8 bits: a quarter of its memory, the same course.

The running means are kept as one byte a number, in blocks with a scale each (Dettmers et al. 2022,
arXiv 2110.02861). Small numbers matter as much as large ones here, so the codes lie close together near
zero: code c of a mean stands for ±(c / 127)² of its block's largest number, of a mean of squares for
(c / 255)⁴. Between two codes it is rounded up in that share of the updates which the number's place
between them says. Rounded to the nearest, a mean that changes by a thousandth an update would stand still.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.optimizers as mo

from training.engine.catalog.optimizers import AdamW8Bit

BLOCK = 128  # numbers that share a scale: 2.06 bytes a weight in all
#: Smaller arrays stay in float32, as in bitsandbytes: they weigh nothing, and norms and biases are touchy.
SMALLEST = 4096

_SIGNED, _UNSIGNED = (127, 2), (255, 4)  # highest code, and the power of its law
_GOLDEN = (2654435769, 1640531527)  # steps of a sequence that fills an interval evenly, out of 2³²


def build(s: AdamW8Bit, learning_rate: float) -> mo.Optimizer:
    """What the catalog's row ``adamw_8bit`` means."""
    return AdamW8bit(learning_rate, s)


class AdamW8bit(mo.Optimizer):
    """See the module. All of its arithmetic is float32, whatever the weights are."""

    def __init__(self, learning_rate: float, settings: AdamW8Bit) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._settings = settings

    def init_single(self, parameter: mx.array, state: dict[str, mx.array]) -> None:
        """The empty memory of one array."""
        if parameter.size < SMALLEST:
            state |= {name: mx.zeros(parameter.shape) for name in ("m", "v")}
            return
        blocks = -(-parameter.size // BLOCK)
        for name, kind in (("m", mx.int8), ("v", mx.uint8)):
            state[name] = mx.zeros((blocks, BLOCK), dtype=kind)
            state[f"{name}_scale"] = mx.zeros((blocks, 1))

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        """One update of one array (Loshchilov and Hutter 2019, algorithm 2)."""
        s, rate, (b1, b2) = self._settings, self.learning_rate.astype(mx.float32), self._settings.betas
        g, w = gradient.astype(mx.float32), parameter.astype(mx.float32)
        small = "m_scale" not in state
        old_m = state["m"] if small else unpack(state["m"], state["m_scale"], _SIGNED, g)
        old_v = state["v"] if small else unpack(state["v"], state["v_scale"], _UNSIGNED, g)
        m, v = b1 * old_m + (1 - b1) * g, b2 * old_v + (1 - b2) * mx.square(g)
        if small:
            state["m"], state["v"] = m, v
        else:
            share = _shares(state["m"].shape, self.step)
            state["m"], state["m_scale"] = pack(m, _SIGNED, share)
            state["v"], state["v_scale"] = pack(v, _UNSIGNED, share)
        length = mx.sqrt(v)
        if s.bias_correction:
            m = m / (1 - b1**self.step).astype(mx.float32)
            length = length * mx.rsqrt(1 - b2**self.step).astype(mx.float32)
        return (w * (1 - rate * s.weight_decay) - rate * m / (length + s.eps)).astype(parameter.dtype)


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
