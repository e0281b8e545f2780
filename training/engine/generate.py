"""Answers a prompt, token by token, with a cache of keys and values."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
from mlx import nn

from training.engine import mlx_models
from training.engine.tokenizer import Tokenizer

_PREFILL = 512  # prompt tokens per forward pass: bounds the memory of attention and logits


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer: its text without the end token, how many tokens it took and how long."""

    text: str
    tokens: int
    seconds: float


def answer(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    max_tokens: int,
    *,
    temperature: float = 0.0,
    stop: Sequence[str] = (),
    seed: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> Generated:
    """Continue ``prompt_ids`` by at most ``max_tokens`` tokens.

    ``temperature`` 0 takes the likeliest token each time; above it tokens are drawn from
    softmax(logits / temperature), by a random stream of its own, so that a training's stream is not
    disturbed (``seed``: 0 if not given). Ends at an end token, or before any text of ``stop``. ``check`` is
    called before each token and may raise, so that a long answer does not hold up a stop.
    """
    started = time.monotonic()
    ids: list[int] = []
    text = ""
    if max_tokens > 0 and prompt_ids:
        cache = mlx_models.submodule("models.cache").make_prompt_cache(model)
        logits = _prefill(model, prompt_ids, cache)
        key = mx.random.key(seed or 0)
        while True:
            check()
            key, now = mx.random.split(key)
            index = _pick(logits, temperature, now)
            if index in tokenizer.eos_ids:
                break
            ids.append(index)
            if stop:
                text = tokenizer.decode(ids, skip_special=True)
                if any(s in text for s in stop):
                    break
            if len(ids) >= max_tokens:
                break
            logits = model(mx.array([[index]]), cache=cache)[0, -1]
    text = _cut(tokenizer.decode(ids, skip_special=True), stop)
    return Generated(text, len(ids), time.monotonic() - started)


def _prefill(model: nn.Module, prompt_ids: Sequence[int], cache: list[object]) -> mx.array:
    """Fill the cache with the prompt; the logits after its last token."""
    for start in range(0, len(prompt_ids), _PREFILL):
        logits = model(mx.array([list(prompt_ids[start : start + _PREFILL])]), cache=cache)[0, -1]
        mx.eval(logits)
    return logits


def _pick(logits: mx.array, temperature: float, key: mx.array) -> int:
    if temperature <= 0:
        chosen = mx.argmax(logits)
    else:
        chosen = mx.random.categorical(logits.astype(mx.float32) / temperature, key=key)
    return int(chosen.item())  # type: ignore[arg-type]  # an index, never complex


def _cut(text: str, stop: Sequence[str]) -> str:
    """``text`` before the first of the ``stop`` texts."""
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]
