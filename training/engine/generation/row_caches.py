"""Keys and values of several rows at once, in mlx-lm's own caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn

from training.engine.machine import cpu_math
from training.engine.models import heads, mlx_models

_PROBES = ((1, 2, 3, 1, 2), (2, 1))


class Reader:
    """A model that reads on: tokens in, logits of each row's last token out."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        if mx.default_device().type == mx.DeviceType.cpu:
            cpu_math.install(model)
        # The body alone while a prompt is read: the head's product over all its tokens would be thrown away.
        head = heads.find(model)
        self._body: Any = head.body
        self._project = head.project
        self.batched = self._is_batched()

    def open(self, rows: int) -> list[Any]:
        """Empty caches for ``rows`` rows, one for each layer."""
        make = mlx_models.submodule("models.cache").make_prompt_cache
        if not self.batched:
            return list(make(self.model))
        return [layer[0].merge(list(layer)) for layer in zip(*(make(self.model) for _ in range(rows)), strict=True)]

    def read(self, prompts: Sequence[Sequence[int]], caches: list[Any], most: int, check: Any) -> mx.array:
        """Fill ``caches`` with ``prompts``, ``most`` tokens a pass; the logits (rows, vocabulary) after them.

        Shorter prompts are padded on the right, where no token of theirs looks, and mlx-lm's caches move the
        padding to the left afterwards.
        """
        lengths = [len(p) for p in prompts]
        longest = max(lengths)
        ids = np.zeros((len(prompts), longest), dtype=np.int32)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        padded = min(lengths) < longest
        if padded:
            for cache in caches:
                cache.prepare(lengths=lengths, right_padding=[longest - n for n in lengths])
        found: dict[int, mx.array] = {}
        piece = max(1, most // len(prompts))
        for start in range(0, longest, piece):
            check()
            hidden = self._body(mx.array(ids[:, start : start + piece]), cache=caches)
            ends = {row: n - 1 - start for row, n in enumerate(lengths) if start < n <= start + piece}
            found |= {row: hidden[row, at] for row, at in ends.items()}
            mx.eval([cache.state for cache in caches], [found[row] for row in ends])
        if padded:
            for cache in caches:
                cache.finalize()
        return self._project(mx.stack([found[row] for row in range(len(prompts))]))

    def step(self, tokens: mx.array, caches: list[Any]) -> mx.array:
        """Logits (rows, vocabulary) after one more token (rows,) each."""
        return self._project(self._body(tokens[:, None], cache=caches)[:, -1])

    def _is_batched(self) -> bool:
        """Whether rows of different length can stand side by side: tried rather than believed.

        Families with a running state (Mamba) would take the padding into it, learned positions (GPT-2) ask
        for one offset for all rows.
        """
        self.batched = False
        was_training = self.model.training
        self.model.eval()
        try:
            alone = [self._probe([p]) for p in _PROBES]
            self.batched = True
            together = self._probe(_PROBES)
            apart = mx.max(mx.abs(together - mx.concatenate(alone))) / mx.max(mx.abs(together))
            exact = together.dtype == mx.float32
            return float(apart.item()) < (1e-3 if exact else 5e-2)  # type: ignore[arg-type]  # never complex
        except (ValueError, TypeError, AttributeError, RuntimeError, NotImplementedError, IndexError):
            return False
        finally:
            self.model.train(was_training)

    def _probe(self, prompts: Sequence[Sequence[int]]) -> mx.array:
        caches = self.open(len(prompts))
        first = self.read(prompts, caches, 8 * len(prompts), lambda: None)
        return mx.concatenate([first, self.step(mx.array([3] * len(prompts)), caches)], axis=-1)


def keep(caches: list[Any], rows: Sequence[int]) -> None:
    """Let the caches hold ``rows`` of theirs only, in this order; a row may stand there several times."""
    indices = mx.array(list(rows))
    for cache in caches:
        cache.filter(indices)


def extend(caches: list[Any], more: list[Any]) -> None:
    """Append the rows of ``more`` to ``caches``."""
    for cache, other in zip(caches, more, strict=True):
        cache.extend(other)
