"""Chooses the next token of every row at once: temperature, top-k, top-p, min-p, and its log-probability.

One text for two array libraries. On a GPU it runs in MLX, where the logits are. On a CPU the logits lie in
ordinary memory, NumPy reads them there without a copy and its ``exp`` is ten times MLX's.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np

from training.engine.errors import ConfigError

_CHUNK = 256  # vocabulary entries that are summed up before the first cumulative sum


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn; the filters apply in the order of Hugging Face's ``generate``.

    ``temperature`` ≥ 0 divides the logits, 0 takes the likeliest token. Then ``top_k`` keeps the k likeliest
    (0: all), ``top_p`` in (0, 1] the smallest set that holds this probability (Holtzman et al. 2020,
    arXiv 1904.09751), ``min_p`` in [0, 1] what is at least this fraction as likely as the likeliest (Nguyen
    et al. 2024, arXiv 2407.01082). Equally likely tokens at an edge all stay.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        wrong = [
            text
            for text, right in (
                (f"temperature {self.temperature}", self.temperature >= 0),
                (f"top_k {self.top_k}", self.top_k >= 0),
                (f"top_p {self.top_p}", 0 < self.top_p <= 1),
                (f"min_p {self.min_p}", 0 <= self.min_p <= 1),
            )
            if not right
        ]
        if wrong:
            raise ConfigError(
                "config.sampling",
                f"Tokens cannot be drawn with {', '.join(wrong)}.",
                "Take temperature and top_k from 0 on, top_p above 0 up to 1, min_p from 0 to 1.",
            )


GREEDY = Sampling(temperature=0.0)


def choose(logits: mx.array, uniform: np.ndarray, how: Sampling, *, host: bool) -> tuple[Any, Any]:
    """Ids (n,) and their log-probabilities (n,), float32, for ``logits`` (n, vocabulary).

    ``uniform`` (n,) in [0, 1) decides each row's draw, so that a row's token depends on nothing but its own
    logits and its own number. The log-probabilities are of softmax(logits / temperature) *before* the filters,
    as policy gradients need them and as TRL computes them; with temperature 0, of softmax(logits).
    ``host``: compute in NumPy and return its arrays; else everything is an MLX array, not yet evaluated.
    """
    xp: Any = np if host else mx
    scores: Any = logits.astype(mx.float32)
    draws: Any = uniform.astype(np.float32)
    if host:
        scores = np.array(scores, copy=False)
    else:
        draws = mx.array(draws)
    if how.temperature > 0 and how.temperature != 1:
        scores = scores * (1 / how.temperature)
    top = xp.max(scores, axis=-1, keepdims=True)
    weights = xp.exp(scores - top)
    total = xp.sum(weights, axis=-1)
    ids = _draw(xp, _filtered(xp, weights, how), draws) if how.temperature > 0 else xp.argmax(scores, axis=-1)
    chosen = xp.take_along_axis(scores, ids[:, None], axis=-1)[:, 0]
    return ids, chosen - top[:, 0] - xp.log(total)


def _filtered(xp: ModuleType | Any, weights: Any, how: Sampling) -> Any:
    """``weights`` (n, vocabulary), the likeliest token's being 1, with what is filtered out set to 0."""
    size, least = weights.shape[-1], None
    if (how.top_k and how.top_k < size) or how.top_p < 1:
        kept = weights
        if how.top_k and how.top_k < size:
            kept = xp.partition(weights, size - how.top_k, axis=-1)[:, size - how.top_k :]
        rising = xp.sort(kept, axis=-1)
        least = rising[:, :1]
        if how.top_p < 1:
            # Mass of a token and of all less likely ones: it goes if the rest alone holds top_p.
            mass = xp.cumsum(rising, axis=-1)
            gone = xp.sum(mass <= (1 - how.top_p) * mass[:, -1:], axis=-1, keepdims=True)
            least = xp.take_along_axis(rising, xp.minimum(gone, rising.shape[-1] - 1), axis=-1)
    if least is not None:
        weights = xp.where(weights >= least, weights, 0.0)
    if how.min_p > 0:
        weights = xp.where(weights >= how.min_p, weights, 0.0)
    return weights


def _draw(xp: ModuleType | Any, weights: Any, uniform: Any) -> Any:
    """Indices (n,) with probabilities proportional to ``weights`` (n, vocabulary), by the inverse distribution.

    In two stages, a chunk of the vocabulary first: one cumulative float32 sum over 100,000 tokens would
    lose the unlikely ones.
    """
    rows, size = weights.shape
    if size % _CHUNK:
        weights = xp.concatenate([weights, xp.zeros((rows, -size % _CHUNK), dtype=weights.dtype)], axis=-1)
    chunks = weights.reshape(rows, -1, _CHUNK)
    sums = xp.sum(chunks, axis=-1)
    chunk, rest = _find(xp, sums, uniform * xp.sum(sums, axis=-1))
    inside, _ = _find(xp, xp.take_along_axis(chunks, chunk[:, None, None], axis=1)[:, 0], rest)
    return chunk * _CHUNK + inside


def _find(xp: ModuleType | Any, weights: Any, mark: Any) -> tuple[Any, Any]:
    """Where the running sum of ``weights`` (n, m) passes ``mark`` (n,), and what of ``mark`` lies in that entry."""
    running = xp.cumsum(weights, axis=-1)
    passed = xp.sum(running <= mark[:, None], axis=-1)
    # Rounding may let the mark pass the whole sum: then it is the last entry that has any weight.
    last = xp.max(xp.where(weights > 0, xp.arange(weights.shape[-1]), 0), axis=-1)
    index = xp.minimum(passed, last)
    at = index[:, None]
    before = xp.take_along_axis(running, at, axis=-1) - xp.take_along_axis(weights, at, axis=-1)
    return index, xp.maximum(mark - before[:, 0], 0.0)
