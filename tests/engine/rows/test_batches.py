"""Rows, their order, and batches: every row once an epoch, the same from any cursor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.examples import one
from training.engine.errors import DataError, ModelError
from training.engine.rows.batches import ByRows, ByTokens, Cursor, Rows, Size, Stream, in_order, order, read
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Flat, Padded


def row(length: int, first: int = 1) -> Example:
    return one(list(range(first, first + length)), [False] + [True] * (length - 1), 0)


ROWS = Rows([row(3 + i * 7 % 11, i) for i in range(23)], 0, 0)


SIZES = [ByRows(1), ByRows(4), ByRows(23), ByRows(50), ByTokens(16), ByTokens(64)]


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_epoch_has_every_row_once(size: Size, sort: bool) -> None:
    for epoch in range(3):
        made = order(ROWS.lengths, size, 42, epoch, sort=sort)
        assert sorted(i for batch in made for i in batch) == list(range(23))
        stream = Stream(ROWS, size, Padded() if sort else Flat(), 42, Cursor(epoch))
        assert len(made) == stream.per_epoch


@pytest.mark.parametrize("sort", [True, False])
def test_epochs_and_seeds_differ_and_repeat(sort: bool) -> None:
    made = [order(ROWS.lengths, ByRows(4), seed, epoch, sort=sort) for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 1))]
    assert made[0] == made[1] != made[2] != made[3]


def test_rows_of_a_sorted_batch_are_about_as_long() -> None:
    lengths = np.arange(1000) % 37 + 1
    made = order(lengths, ByRows(4), 0, 0, sort=True)
    assert sorted(i for batch in made for i in batch) == list(range(1000))
    assert np.mean([np.ptp(lengths[batch]) for batch in made]) < 5


def test_a_token_budget_is_kept_and_a_longer_row_stands_alone() -> None:
    lengths = np.array([10, 30, 90, 5, 5, 20, 63, 64, 1])
    made = ByTokens(64).split(lengths, np.arange(9))
    assert made == [[0, 1], [2], [3, 4, 5], [6], [7], [8]]
    assert all(sum(lengths[i] for i in batch) < 64 or len(batch) == 1 for batch in made)


@pytest.mark.parametrize("size", [ByRows(4), ByTokens(40)], ids=str)
def test_a_stream_goes_on_from_any_cursor(size: Size) -> None:
    whole, cursors, seen = Stream(ROWS, size, Flat(), 7), [], []
    while whole.cursor.epoch < 3:
        cursors.append(whole.cursor)
        seen.append(whole.next()[1])
    assert sorted(i for numbers in seen for i in numbers) == sorted([*range(23)] * 3)
    for cursor, numbers in zip(cursors, seen, strict=True):
        assert Stream(ROWS, size, Flat(), 7, cursor).next()[1] == numbers


def test_evaluation_takes_all_or_an_even_choice() -> None:
    def lengths(most: int = -1) -> list[int]:
        return [batch.ids.shape[1] for batch, _ in in_order(ROWS, ByRows(4), Padded(), most)]

    assert sum(batch.ids.shape[0] for batch, _ in in_order(ROWS, ByRows(4), Padded())) == 23
    assert [len(lengths(most)) for most in (0, 1, 3, 5, 6, 9)] == [0, 1, 3, 5, 6, 6]
    assert lengths(3) == sorted(lengths(3))
    assert lengths(3)[0] < lengths(3)[-1]


def write(folder: Path, *lines: str) -> Path:
    path = folder / "train.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def encode(raw: dict[str, Any]) -> list[Example]:
    return [one([1] * raw["length"], [False] + [raw["length"] > 2] * (raw["length"] - 1), raw.get("cut", 0))]


def test_counts_what_trains_nothing_and_what_is_cut(tmp_path: Path) -> None:
    path = write(tmp_path, '{"length": 3}', '{"length": 2}', '{"length": 5, "cut": 2}', '{"length": 0}')
    rows = read(path, lambda raw: encode(raw) if raw["length"] else [one([], [], 0)], lambda n: None)
    assert (len(rows.rows), rows.left_out, rows.cut, rows.trained_tokens) == (2, 2, 1, 6)
    assert read(tmp_path / "valid.jsonl", encode, lambda n: None).rows == []


@pytest.mark.parametrize("line", ["{", "", "[]", "5", '"x"', "{}", "[" * 10**5, '{"length": "x"}', "null"])
def test_a_broken_row_is_named_by_its_line(line: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Row 2 of train\.jsonl") as refused:
        read(write(tmp_path, '{"length": 3}', line), encode, lambda n: None)
    assert refused.value.code == "data.row"


def test_a_reason_keeps_its_code_and_gets_its_line(tmp_path: Path) -> None:
    def refuse(raw: dict[str, Any]) -> list[Example]:
        raise DataError("data.template_rewrites", "The template rewrites turn 2.", "Choose another.")

    with pytest.raises(DataError, match=r"^Row 1 of train\.jsonl: The template") as refused:
        read(write(tmp_path, json.dumps({})), refuse, lambda n: None)
    assert refused.value.code == "data.template_rewrites"


def test_the_models_fault_is_not_the_rows(tmp_path: Path) -> None:
    def refuse(raw: dict[str, Any]) -> list[Example]:
        raise ModelError("model.no_chat_template", "No template.", "Choose another model.")

    with pytest.raises(ModelError):
        read(write(tmp_path, "{}"), refuse, lambda n: None)
