"""What every driver of a peer needs: the truth about the rows, and a clock that stops at each step.

A driver is a process of its own: ``python -m tests.bench.peers.<name> work.json out.json``. It calls the
peer's own trainer, unaltered, and writes a :class:`tests.bench.run.Run` without the name of its row.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.run import GIB, Run, Step
from tests.bench.work import Work
from training.engine.data import token_view
from training.engine.models import tokenizer
from training.engine.rows import masks
from training.engine.rows.masks import Encoded


class Enough(Exception):  # noqa: N818 - no error: the time given is over
    """Raised from within the peer's loop to leave it."""


def encoded(work: Work) -> list[Encoded]:
    """The rows as tokens, with the flags that our engine trains by; of a pair both answers, the chosen one first."""
    words = tokenizer.load(Path(work.model))
    lines = (Path(work.data) / "train.jsonl").read_text().splitlines()
    parts = [token_view.encoded(json.loads(line), words, work.train_on).values() for line in lines]
    return [masks.shortened(part, work.max_seq_length) for row in parts for part in row]


class Truth:
    """How many tokens of a batch are really trained, looked up by the tokens of its rows."""

    def __init__(self, work: Work) -> None:
        rows = encoded(work)
        self._trained = {tuple(row.ids): sum(row.trained[1:]) for row in rows}

    def count(self, ids: list[list[int]], lengths: list[int]) -> int:
        """Trained tokens of padded rows. Raises KeyError for a row whose tokens differ from ours."""
        return sum(self._trained[tuple(row[:length])] for row, length in zip(ids, lengths, strict=True))


class Clock:
    """Step by step: how long, how many tokens. Ends the loop when the work's seconds are over."""

    def __init__(self, work: Work) -> None:
        self.work, self.truth = work, Truth(work)
        self.steps: list[Step] = []
        self._began = self._last = time.perf_counter()
        self._first_at = 0.0
        self._tokens = self._rows = 0

    def start(self) -> None:
        """The peer's loop begins now."""
        self._began = self._last = time.perf_counter()

    def batches(self, made: Iterator[Any]) -> Iterator[Any]:
        """A peer's (ids, (offset, length)) batches as they are, counted on their way."""
        for ids, spans in made:
            lengths = [length for _, length in spans.tolist()]
            self.expect(self.truth.count(ids.tolist(), lengths), len(lengths))
            yield ids, spans

    def expect(self, tokens: int, rows: int) -> None:
        """The next step trains so much."""
        self._tokens, self._rows = tokens, self._rows + rows

    def step(self, loss: float) -> None:
        """A step is done. Raises Enough."""
        now = time.perf_counter()
        self.steps.append(Step(now - self._last, self._tokens, self._rows / self.work.rows, loss))
        self._last = now
        if len(self.steps) == 1:
            self._first_at = time.time()
            self._began = now
        elif self.work.seconds and now - self._began > self.work.seconds:
            raise Enough

    def result(self, device_bytes: int, trainable: int, backend: str) -> dict[str, Any]:
        """A Run as plain values; ``start_s`` is still a point in time, because only the parent knows the start."""
        run = Run(
            "", 1, self.steps, start_s=self._first_at, first_s=self.steps[0].seconds,
            device_gib=device_bytes / GIB, trainable=trainable, backend=backend,
        )  # fmt: skip
        return asdict(run)


def main(train: Callable[[Work], dict[str, Any]]) -> None:
    """A driver's command line."""
    result = train(Work.read(Path(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps(result))
