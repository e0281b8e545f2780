"""Rows, their order, and batches: every row once an epoch, the same from any cursor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from training.engine.batches import Cursor, Rows, Stream, in_order, order, read, stack
from training.engine.errors import DataError, ModelError
from training.engine.masks import Encoded


def row(length: int, first: int = 1) -> Encoded:
    return Encoded(list(range(first, first + length)), [False] + [True] * (length - 1), 0)


ROWS = Rows([row(3 + i * 7 % 11, i) for i in range(23)], 0, 0)


def test_padding_is_on_the_right_and_untrained() -> None:
    batch = stack([row(4), row(2)])
    assert batch.ids.tolist() == [[1, 2, 3, 4], [1, 2, 0, 0]]
    assert batch.trained.tolist() == [[0, 1, 1, 1], [0, 1, 0, 0]]
    assert (batch.tokens, batch.total) == (4, 6)


@pytest.mark.parametrize("size", [1, 4, 23, 50])
def test_an_epoch_has_every_row_once(size: int) -> None:
    for epoch in range(3):
        made = order(ROWS.lengths, size, 42, epoch)
        assert sorted(i for batch in made for i in batch) == list(range(23))
        assert len(made) == Stream(ROWS, size, 42).per_epoch


def test_epochs_and_seeds_differ_and_repeat() -> None:
    assert order(ROWS.lengths, 4, 1, 0) == order(ROWS.lengths, 4, 1, 0)
    assert order(ROWS.lengths, 4, 1, 0) != order(ROWS.lengths, 4, 1, 1) != order(ROWS.lengths, 4, 2, 1)


def test_many_rows_are_all_there_too() -> None:
    lengths = np.arange(1000) % 37 + 1
    made = order(lengths, 4, 0, 0)
    assert sorted(i for batch in made for i in batch) == list(range(1000))
    assert np.mean([np.ptp(lengths[batch]) for batch in made]) < 3  # rows of a batch are about as long


def test_a_stream_goes_on_from_any_cursor() -> None:
    whole, cursors, batches = Stream(ROWS, 4, 7), [], []
    for _ in range(15):
        cursors.append(whole.cursor)
        batches.append(whole.next().ids)
    assert cursors[6] == Cursor(1, 0)
    for cursor, batch in zip(cursors, batches, strict=True):
        assert mx.array_equal(Stream(ROWS, 4, 7, cursor).next().ids, batch)


def test_evaluation_takes_all_or_an_even_choice() -> None:
    assert sum(len(b.ids.tolist()) for b in in_order(ROWS, 4)) == 23
    assert [len(list(in_order(ROWS, 4, most))) for most in (0, 1, 3, 5, 6, 9)] == [0, 1, 3, 5, 6, 6]
    chosen = [b.ids.shape[1] for b in in_order(ROWS, 4, 3)]
    assert chosen == sorted(chosen)
    assert chosen[0] < chosen[-1]


def write(folder: Path, *lines: str) -> Path:
    path = folder / "train.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def encode(raw: dict[str, Any]) -> Encoded:
    return Encoded([1] * raw["length"], [False] + [raw["length"] > 2] * (raw["length"] - 1), raw.get("cut", 0))


def test_counts_what_trains_nothing_and_what_is_cut(tmp_path: Path) -> None:
    path = write(tmp_path, '{"length": 3}', '{"length": 2}', '{"length": 5, "cut": 2}', '{"length": 0}')
    rows = read(path, lambda raw: encode(raw) if raw["length"] else Encoded([], [], 0), lambda n: None)
    assert (len(rows.rows), rows.left_out, rows.cut, rows.trained_tokens) == (2, 2, 1, 6)
    assert read(tmp_path / "valid.jsonl", encode, lambda n: None).rows == []


@pytest.mark.parametrize("line", ["{", "", "[]", "5", '"x"', "{}", "[" * 10**5, '{"length": "x"}', "null"])
def test_a_broken_row_is_named_by_its_line(line: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Row 2 of train\.jsonl") as refused:
        read(write(tmp_path, '{"length": 3}', line), encode, lambda n: None)
    assert refused.value.code == "data.row"


def test_a_reason_keeps_its_code_and_gets_its_line(tmp_path: Path) -> None:
    def refuse(raw: dict[str, Any]) -> Encoded:
        raise DataError("data.template_rewrites", "The template rewrites turn 2.", "Choose another.")

    with pytest.raises(DataError, match=r"^Row 1 of train\.jsonl: The template") as refused:
        read(write(tmp_path, json.dumps({})), refuse, lambda n: None)
    assert refused.value.code == "data.template_rewrites"


def test_the_models_fault_is_not_the_rows(tmp_path: Path) -> None:
    def refuse(raw: dict[str, Any]) -> Encoded:
        raise ModelError("model.no_chat_template", "No template.", "Choose another model.")

    with pytest.raises(ModelError):
        read(write(tmp_path, "{}"), refuse, lambda n: None)
