"""Completions of many prompts at once: for samples, for PPO and GRPO, for distillation on a model's own text.

Rows of a batch share every matrix product, which is nearly all of the work: on a CPU a step of 16 rows takes
about twice as long as a step of one. Rows that have ended leave the batch, waiting prompts come in, several
samples of one prompt read it once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from mlx import nn

from training.engine.errors import DataError
from training.engine.generation import row_caches
from training.engine.generation.row_caches import Reader
from training.engine.generation.sampling import Sampling, choose

Finish = Literal["eos", "length", "stop"]

_PASS = 2048  # tokens in one forward pass over prompts: bounds the memory of its activations
_SLACK = {True: 64, False: 2048}  # on a CPU or not: padding that costs about as much as one more pass
_SHRINK = 0.25  # part of a batch that has ended before the others are copied together


@dataclass(frozen=True, slots=True)
class Completion:
    """What followed a prompt. ``prompt`` is its index, ``sample`` counts from 0 within it.

    ``ids`` ends with the end token when ``finish`` is "eos". ``logprobs`` (len(ids),), float32: see
    :func:`training.engine.generation.sampling.choose`. ``seconds`` until this one ended; rows that were computed
    together share that time.
    """

    prompt: int
    sample: int
    ids: list[int]
    logprobs: np.ndarray
    finish: Finish
    seconds: float


@dataclass(slots=True)
class _Row:
    prompt: int
    sample: int
    length: int  # tokens of the prompt
    uniform: np.ndarray  # one number in [0, 1) for each token to come
    since: float
    asked: int = 0  # tokens that have been asked for; on a GPU one more than are known
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class _Batch:
    """Rows side by side. ``tokens`` (rows,) are the newest ones, not yet in the caches."""

    rows: list[_Row]
    caches: list[Any]
    tokens: Any
    width: int  # tokens of the longest row, padding included


@dataclass(frozen=True, slots=True)
class _Asked:
    """The settings of one call of :meth:`Rollout.run`, which says what they mean."""

    max_tokens: int
    sampling: Sampling
    entropy: list[int]
    check: Callable[[], None]
    stop: Callable[[list[int]], bool] | None


class Rollout:
    """Continues prompts with ``model``; made once, used as often as wanted while the weights change.

    ``eos_ids`` end a row. ``rows``: most rows at once; ``tokens``: most positions of keys and values held
    at once, padding and tokens to come included, the bound of memory. ``context``: positions the model knows.
    """

    def __init__(
        self,
        model: nn.Module,
        eos_ids: Sequence[int] | frozenset[int],
        *,
        rows: int = 64,
        tokens: int = 32768,
        context: int | None = None,
    ) -> None:
        self.model, self.context = model, context
        self._reader = Reader(model)
        self._eos = frozenset(eos_ids)
        self._rows, self._tokens = (rows if self._reader.batched else 1), tokens
        # A CPU computes at once when asked, so nothing is gained by asking ahead, and caches would be copied.
        self._host = mx.default_device().type == mx.DeviceType.cpu
        self._ahead = 0 if self._host else 1

    @property
    def batched(self) -> bool:
        """Whether rows are computed side by side; families that cannot are continued one after the other."""
        return self._reader.batched

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        sampling: Sampling,
        *,
        samples: int = 1,
        seed: int | Sequence[int] = 0,
        check: Callable[[], None] = lambda: None,
        stop: Callable[[list[int]], bool] | None = None,
    ) -> list[Completion]:
        """``samples`` completions of each prompt, in the order of the prompts, of at most ``max_tokens`` tokens.

        Row s of prompt p draws from a random stream of its own, that of (``seed``, p, s): the same whatever
        else is in the batch, and apart from the training's stream. ``check`` is called before each forward
        pass and may raise. ``stop`` is asked with a row's ids after each token. Dropout is off meanwhile.

        Raises DataError ``data.prompt_empty``, ``data.prompt_long``.
        """
        self._refuse(prompts, max_tokens)
        if max_tokens <= 0:
            nothing = np.zeros(0, dtype=np.float32)
            return [Completion(p, s, [], nothing, "length", 0.0) for p in range(len(prompts)) for s in range(samples)]
        entropy = [seed] if isinstance(seed, int) else list(seed)
        order = sorted(range(len(prompts)), key=lambda p: (-len(prompts[p]), p))
        waiting = deque((p, s) for p in order for s in range(samples))
        was_training = self.model.training
        self.model.eval()
        try:
            done = _Run(self, prompts, _Asked(max_tokens, sampling, entropy, check, stop)).all(waiting)
        finally:
            self.model.train(was_training)
        return sorted(done, key=lambda c: (c.prompt, c.sample))

    def _refuse(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> None:
        most, why = self._tokens, "the tokens that may be held at once"
        if self.context is not None and self.context < most:
            most, why = self.context, "the model's context"
        for index, prompt in enumerate(prompts):
            if not len(prompt):
                raise DataError(
                    "data.prompt_empty",
                    f"Prompt {index + 1} of {len(prompts)} has no tokens.",
                    "Give it a text; there is nothing to go on from.",
                )
            if len(prompt) + max_tokens > most:
                raise DataError(
                    "data.prompt_long",
                    f"Prompt {index + 1} has {len(prompt)} tokens; with {max_tokens} new ones "
                    f"that is beyond {why}, {most}.",
                    "Shorten the prompt, or ask for fewer new tokens.",
                )


class _Run:
    """One call of :meth:`Rollout.run`: the rows on their way."""

    def __init__(self, owner: Rollout, prompts: Sequence[Sequence[int]], asked: _Asked) -> None:
        self._prompts, self._max, self._how = prompts, asked.max_tokens, asked.sampling
        self._entropy, self._check, self._stop = asked.entropy, asked.check, asked.stop
        self._reader, self._eos, self._host, self._ahead = owner._reader, owner._eos, owner._host, owner._ahead
        self._most_rows, self._most_tokens = owner._rows, owner._tokens
        self._batch: _Batch | None = None
        self._pending: deque[tuple[list[_Row], Any, Any]] = deque()  # chosen on the device, not yet read
        self._done: list[Completion] = []

    def all(self, waiting: deque[tuple[int, int]]) -> list[Completion]:
        """Continue all ``waiting`` (prompt, sample) pairs."""
        while waiting or self._batch is not None:
            self._tidy()
            if waiting and (fitting := self._fitting(waiting)):
                self._admit([waiting.popleft() for _ in range(fitting)])
            if self._batch is not None:
                self._step(self._batch)
        return self._done

    def _fitting(self, waiting: deque[tuple[int, int]]) -> int:
        """How many of the waiting rows fit beside those that are on their way."""
        busy, width = 0, 0
        if self._batch is not None:
            busy, width = len(self._batch.rows), self._batch.width
            if busy > self._most_rows * (1 - _SHRINK):
                return 0  # a few rows at a time are not worth a pass of their own
        count = 0
        for prompt, _ in waiting:
            width = max(width, len(self._prompts[prompt]))
            rows = busy + count + 1
            if rows > self._most_rows or rows * (width + self._max) > self._most_tokens:
                break
            count += 1
        return count

    def _admit(self, pairs: list[tuple[int, int]]) -> None:
        """Read prompts and put their rows into the batch. ``pairs`` come longest prompt first."""
        groups: list[list[tuple[int, int]]] = []
        longest, tokens, padding = 0, 0, 0
        last = -1
        for prompt, sample in pairs:
            size = len(self._prompts[prompt])
            if prompt != last:
                more = longest - size
                if not groups or tokens + longest > _PASS or padding + more > _SLACK[self._host]:
                    groups.append([])
                    longest, tokens, padding, more = size, 0, 0, 0
                tokens, padding, last = tokens + longest, padding + more, prompt
            groups[-1].append((prompt, sample))
        for group in groups:
            self._read(group)

    def _read(self, pairs: list[tuple[int, int]]) -> None:
        since = time.monotonic()
        unique = list(dict.fromkeys(prompt for prompt, _ in pairs))
        place = {prompt: at for at, prompt in enumerate(unique)}
        prompts = [self._prompts[prompt] for prompt in unique]
        caches = self._reader.open(len(prompts))
        logits = self._reader.read(prompts, caches, _PASS, self._check)
        if len(pairs) > len(unique):
            repeats = [place[prompt] for prompt, _ in pairs]
            row_caches.keep(caches, repeats)
            logits = logits[mx.array(repeats)]
        rows = [self._row(prompt, sample, since) for prompt, sample in pairs]
        batch = _Batch(rows, caches, None, max(len(p) for p in prompts))
        batch.tokens = self._choose(rows, logits)
        if self._batch is None:
            self._batch = batch
        else:
            row_caches.extend(self._batch.caches, caches)
            self._batch.rows += rows
            self._batch.tokens = mx.concatenate([self._batch.tokens, batch.tokens])
            self._batch.width = max(self._batch.width, batch.width)
        self._collect(self._ahead)

    def _row(self, prompt: int, sample: int, since: float) -> _Row:
        uniform = np.zeros(self._max, dtype=np.float32)
        if self._how.temperature > 0:
            # A counter-based stream for each row; the first numbers do not depend on how many are drawn.
            stream = np.random.SeedSequence([*self._entropy, prompt, sample])
            uniform = np.random.Generator(np.random.Philox(stream)).random(self._max, dtype=np.float32)
        return _Row(prompt, sample, len(self._prompts[prompt]), uniform, since)

    def _step(self, batch: _Batch) -> None:
        """One more token for every row of the batch."""
        if all(row.finish is not None or row.asked >= self._max for row in batch.rows):
            self._collect(0)
            return
        self._check()
        logits = self._reader.step(batch.tokens, batch.caches)
        batch.width += 1
        batch.tokens = self._choose(batch.rows, logits)
        self._collect(self._ahead)

    def _choose(self, rows: list[_Row], logits: mx.array) -> mx.array:
        uniform = np.array([row.uniform[min(row.asked, self._max - 1)] for row in rows], dtype=np.float32)
        ids, logprobs = choose(logits, uniform, self._how, host=self._host)
        for row in rows:
            row.asked += 1
        if not self._host:
            mx.async_eval(ids, logprobs)
        self._pending.append((list(rows), ids, logprobs))
        return mx.array(ids) if self._host else ids

    def _collect(self, behind: int) -> None:
        """Read what was chosen, but for the newest ``behind`` steps, which the device may still compute."""
        while len(self._pending) > behind:
            rows, ids, logprobs = self._pending.popleft()
            for row, token, logprob in zip(rows, ids.tolist(), logprobs.tolist(), strict=True):
                if row.finish is None:
                    row.ids.append(token)
                    row.logprobs.append(logprob)
                    self._end(row)

    def _end(self, row: _Row) -> None:
        if row.ids[-1] in self._eos:
            row.finish = "eos"
        elif self._stop is not None and self._stop(row.ids):
            row.finish = "stop"
        elif len(row.ids) >= self._max:
            row.finish = "length"
        if row.finish is not None:
            row.seconds = time.monotonic() - row.since
            logprobs = np.array(row.logprobs, dtype=np.float32)
            self._done.append(Completion(row.prompt, row.sample, row.ids, logprobs, row.finish, row.seconds))

    def _tidy(self) -> None:
        """Let go of the rows that have ended, if that is worth the copy."""
        batch = self._batch
        if batch is None:
            return
        alive = [at for at, row in enumerate(batch.rows) if row.finish is None]
        if not alive:
            self._batch = None
            self._pending.clear()
        elif len(batch.rows) - len(alive) >= max(1.0, _SHRINK * len(batch.rows)):
            row_caches.keep(batch.caches, alive)
            batch.tokens = batch.tokens[mx.array(alive)]
            batch.rows = [batch.rows[at] for at in alive]
            batch.width = max(row.length + row.asked for row in batch.rows)
