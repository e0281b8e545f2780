"""What the loop is fed with: micro-batches to train on and to evaluate, laid out, with what is known of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlx import nn

from training.engine.config.training import TrainConfig
from training.engine.loop.distributed import Group
from training.engine.report import Reporter
from training.engine.rows.batches import ByRows, ByTokens, Cursor, Rows, Size, Stream, batches_in_order, in_order
from training.engine.rows.examples import Array
from training.engine.rows.layouts import Batch, Layout
from training.engine.rows.replay import Replay, Seam, seam


def size_of(config: TrainConfig) -> Size:
    """How many rows a micro-batch has."""
    return ByTokens(config.batch_tokens) if config.batch_tokens else ByRows(config.batch_size)


class Feed:
    """The splits of a data set as this rank sees them. A batch is None where it has no row of it."""

    def __init__(self, config: TrainConfig, splits: dict[str, Rows], layout: Layout, group: Group) -> None:
        self.splits, self.layout, self.group = splits, layout, group
        self.size = size_of(config)
        self._stream = Stream(splits["train"], self.size, layout, config.seed, share=group.share)
        self._replays: dict[str, Replay] = {}
        self.seam: Seam | None = None

    def cache_activations(self, model: nn.Module, folder: Path, say: Reporter) -> None:
        """Keep what frozen lower blocks make of the rows in a file in ``folder``; says so when that cannot be."""
        self.seam = seam(model) if self.group.is_alone else None
        if self.seam is None:
            why = "no block below the trained ones is frozen" if self.group.is_alone else "rows wander between ranks"
            say.log(f"Activations are not cached: {why}.", "warning")
            return
        together = {name: batches_in_order(rows, self.size) for name, rows in self.splits.items()}
        together["train"] = self._stream.first_epoch
        for name, numbers in together.items():
            self._replays[name] = Replay(self.seam, self.splits[name], self.layout, numbers, folder)

    @property
    def cursor(self) -> Cursor:
        """Where the next micro-batch stands."""
        return self._stream.cursor

    @property
    def per_epoch(self) -> int:
        """Micro-batches in this epoch."""
        return self._stream.per_epoch

    @property
    def epochs(self) -> float:
        """Epochs done so far, with the fraction."""
        return self._stream.epochs

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """What a checkpoint keeps beside the cursor: nothing."""
        return {}, {}

    def restore(self, cursor: Cursor, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go to ``cursor``."""
        del values, arrays
        self._stream.seek(cursor)

    def told(self) -> dict[str, float]:
        """What is to be told beside the losses: nothing."""
        return {}

    def next(self) -> Batch | None:
        """This rank's rows of the next micro-batch to train on."""
        return self._known("train", *self._stream.next())

    def evaluation(self, split: str, most: int) -> Iterator[Batch | None]:
        """All rows of ``split`` in at most ``most`` batches (−1: as many as there are)."""
        for batch, numbers in in_order(self.splits[split], self.size, self.layout, most, self.group.share):
            yield self._known(split, batch, numbers)

    def _known(self, split: str, batch: Batch | None, numbers: list[int]) -> Batch | None:
        return self._replays[split].on(batch, numbers) if batch is not None and self._replays else batch
