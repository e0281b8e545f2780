"""Training on what the model itself writes: prompts in, answers collected and judged, several passes over them.

A *rollout* is a number of prompts with the answers to them. It is collected with the weights of that moment, cut
into micro-batches like any other rows, and gone over a few times; then the next prompts come. A training that is
killed in the midst of a rollout finds it in its checkpoint: the weights that wrote it are gone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from training.engine.config.training import TrainConfig
from training.engine.learning.method import Method
from training.engine.rows import packing
from training.engine.rows.batches import ByRows, Cursor, Rows, order
from training.engine.rows.examples import Array, Example
from training.engine.rows.layouts import Batch, Layout

Numbers = dict[str, float]


@dataclass(frozen=True, slots=True)
class Collected:
    """Answers to train on, and what is to be told about them: means, shares of time."""

    examples: list[Example]
    told: Numbers = field(default_factory=dict)


class Online(Method):
    """A method that makes its own rows out of prompts."""

    prompts: int
    """Prompts of a rollout."""
    samples: int
    """Answers to each prompt."""
    passes: int
    """How often a rollout is gone over."""

    def keeps(self, example: Example) -> bool:
        """Every prompt: what is trained comes later."""
        return bool(example.parts[0].ids)

    @abstractmethod
    def collect(self, prompts: Sequence[Example], seed: Sequence[int], check: Callable[[], None]) -> Collected:
        """Let the model answer and judge the answers: ``samples`` examples for each prompt, in their order.

        ``seed`` decides all that is drawn. ``check`` is called now and then and may raise.
        """

    @abstractmethod
    def judge(self, prompts: Sequence[Example], check: Callable[[], None]) -> Numbers:
        """Means over the answers to held-out ``prompts``; always drawn alike, nothing is learnt."""

    def state(self) -> Numbers:
        """What the method has learnt beside the model, such as an adaptive coefficient."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take back what :meth:`state` gave."""


class OnlineFeed:
    """As :class:`training.engine.loop.feed.Feed`; its micro-batches are answers.

    The cursor stands at a rollout: ``index`` of them are done in epoch ``epoch``.
    """

    seam = None

    def __init__(
        self,
        config: TrainConfig,
        splits: dict[str, Rows],
        layout: Layout,
        method: Online,
        check: Callable[[], None],
        *,
        collected: Callable[[], None] = lambda: None,
    ) -> None:
        """``collected`` is called when a rollout is there, before any of it is learnt; it may raise, as ``check``."""
        self.splits, self.layout, self.method = splits, layout, method
        self._batch, self._seed, self._check, self._collected = config.batch_size, config.seed, check, collected
        self.cursor = Cursor()
        self._inner = 0  # micro-batches of the rollout that are done
        self._examples: list[Example] = []
        self._micro: list[list[int]] = []
        self._told: Numbers = {}
        self.seek(self.cursor)

    @property
    def per_epoch(self) -> int:
        """Micro-batches in an epoch."""
        answers = [self.method.samples * len(rollout) for rollout in self._rollouts]
        return sum(self.method.passes * -(-count // self._batch) for count in answers)

    @property
    def epochs(self) -> float:
        """Epochs done so far, with the fraction."""
        share = self._inner / len(self._micro) if self._micro else 0.0
        return self.cursor.epoch + (self.cursor.index + share) / len(self._rollouts)

    def seek(self, cursor: Cursor) -> None:
        """Go to the beginning of the rollout at ``cursor``."""
        self.cursor, self._inner, self._examples, self._micro = cursor, 0, [], []
        lengths = self.splits["train"].lengths
        self._rollouts = order(lengths, ByRows(self.method.prompts), self._seed, cursor.epoch, sort=False)

    def next(self) -> Batch:
        """The micro-batch of answers at hand, until it has :meth:`passed`; collects a rollout where none is left."""
        if not self._micro:
            self._collect()
        return self.layout.lay([self._examples[i] for i in self._micro[self._inner]])

    def passed(self) -> None:
        """The micro-batch of :meth:`next` has been gone through."""
        self._inner += 1
        if self._inner == len(self._micro):
            done = self.cursor.index + 1 == len(self._rollouts)
            self.seek(Cursor(self.cursor.epoch + 1, 0) if done else Cursor(self.cursor.epoch, self.cursor.index + 1))

    def _collect(self) -> None:
        prompts = [self.splits["train"].rows[i] for i in self._rollouts[self.cursor.index]]
        made = self.method.collect(prompts, (self._seed, self.cursor.epoch, self.cursor.index), self._check)
        self._take(made.examples)
        self._told = made.told
        self._collected()

    def _take(self, examples: list[Example]) -> None:
        """Cut the answers into micro-batches, differently in each pass."""
        self._examples, self._micro = examples, []
        lengths = np.array([example.length for example in examples], dtype=np.int64)
        for turn in range(self.method.passes):
            random = np.random.Generator(np.random.PCG64([self._seed, self.cursor.epoch, self.cursor.index, turn]))
            self._micro += ByRows(self._batch).split(lengths, random.permutation(len(examples)))

    def told(self) -> Numbers:
        """What was told about the newest rollout, once."""
        told, self._told = self._told, {}
        return told

    def judged(self, split: str, most: int) -> Numbers:
        """Means over the answers to the prompts of ``split``, at most ``most`` micro-batches of them (−1: all)."""
        rows = self.splits[split].rows
        return self.method.judge(rows if most < 0 else rows[: most * self._batch], self._check)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """What a checkpoint keeps beside the cursor: plain values, and the rollout as arrays."""
        arrays = packing.pack(self._examples) if self._examples else {}
        return {"inner": self._inner, "told": self._told, "method": self.method.state()}, arrays

    def restore(self, cursor: Cursor, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on where :meth:`state` was taken."""
        self.seek(cursor)
        self.method.restore(values.get("method", {}))
        self._told = dict(values.get("told", {}))
        if arrays:
            self._take(packing.unpack(arrays))
            self._inner = int(values["inner"])
