"""MLX's one random stream, read and put back bit for bit."""

from __future__ import annotations

from typing import Any

import mlx.core as mx


def key() -> mx.array:
    """The stream's present key, shape (2,), uint32."""
    state: Any = mx.random.state
    return mx.array(state[0])


def put(saved: mx.array) -> None:
    """Let the stream go on from ``saved``.

    A seed is the only way to set it; MLX splits the seed into the two halves of the key.
    """
    halves: Any = saved.tolist()
    mx.random.seed((int(halves[0]) << 32) | int(halves[1]))
