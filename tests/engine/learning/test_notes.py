"""Notes: computed once, found again, by whom they fit; broken ones are made anew, and no disk is no reason to fail."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.engine.examples import one
from training.engine.errors import Exit, StopAsked
from training.engine.learning import notes
from training.engine.learning.lender import Lender
from training.engine.learning.notes import Desk
from training.engine.machine.device import Device
from training.engine.models.tokenizer import load
from training.engine.report import Silent
from training.engine.rows.batches import ByRows, Rows
from training.engine.rows.layouts import Batch, Flat

#: Of 2 … 6 tokens, so that the order of lengths is not the order of rows.
ROWS = Rows([one([n] * n, [False] + [True] * (n - 1)) for n in (4, 2, 6, 3, 5)], 0, 0)


class Counting:
    """What is computed of a batch, and how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, batch: Batch) -> dict[tuple[notes.Per, str], mx.array]:
        self.calls += 1
        return {
            ("example", "tokens"): batch.by_part(mx.ones(batch.targets.shape), 1)[:, 0],
            ("target", "twice"): mx.stack([batch.targets, 2 * batch.targets], axis=1),
        }


@pytest.fixture
def desk(tiny_llama: Path, tmp_path: Path) -> Desk:
    lender = Lender({}, "float32", Device("cpu", "test", 0, "", 1, True))
    identity = {"model": "a", "rows.train": "b"}
    words = load(tiny_llama)
    return Desk(Flat(), ByRows(2), Silent(), lambda: None, tmp_path / "notes", identity, lender, words, 64)


def assert_right(rows: Rows) -> None:
    for row in rows.rows:
        n = row.parts[0].ids[0]
        assert row.numbers == {"tokens": n - 1}
        assert row.arrays["twice"].tolist() == [[n, 2 * n]] * (n - 1)


def test_each_row_gets_its_own_and_nothing_is_computed_twice(desk: Desk) -> None:
    compute = Counting()
    for _ in range(2):
        assert_right(desk.noted("train", ROWS, "test", {}, compute))
    assert compute.calls == 3  # batches of two, once


@pytest.mark.parametrize("change", [{"model": "x"}, {"rows.train": "x"}])
def test_what_decides_them_is_part_of_their_name(desk: Desk, change: dict[str, str]) -> None:
    compute = Counting()
    desk.noted("train", ROWS, "test", {}, compute)
    other = replace(desk, identity={**desk.identity, **change})
    other.noted("train", ROWS, "test", {}, compute)
    desk.noted("train", ROWS, "test", {"k": 2}, compute)
    assert compute.calls == 9


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY torn"])
def test_broken_notes_are_made_anew(desk: Desk, content: bytes) -> None:
    compute = Counting()
    desk.noted("train", ROWS, "test", {}, compute)
    assert desk.folder is not None
    next(desk.folder.glob("*/target.twice.npy")).write_bytes(content)
    assert_right(desk.noted("train", ROWS, "test", {}, compute))
    assert compute.calls == 6


def test_without_a_folder_or_room_they_are_computed_each_time(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (None, tmp_path / "file"):
        assert_right(replace(desk, folder=folder).noted("train", ROWS, "test", {}, Counting()))


def test_a_stop_leaves_nothing_half_done(desk: Desk) -> None:
    def stop() -> None:
        raise StopAsked("signal SIGTERM", Exit.STOPPED)

    with pytest.raises(StopAsked):
        replace(desk, check=stop).noted("train", ROWS, "test", {}, Counting())
    assert desk.folder is not None
    assert not [path for path in desk.folder.iterdir() if path.is_dir()]
    assert_right(desk.noted("train", ROWS, "test", {}, Counting()))


def test_two_at_once_compute_them_once(desk: Desk) -> None:
    compute, found = Counting(), []
    threads = [
        threading.Thread(target=lambda: found.append(desk.noted("train", ROWS, "test", {}, compute))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert compute.calls == 3
    assert len(found) == 2
    for rows in found:
        assert_right(rows)


def test_the_oldest_go_when_it_is_too_much(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.folder is not None
    desk.noted("train", ROWS, "test", {"k": 1}, Counting())
    first = next(path for path in desk.folder.iterdir() if path.is_dir())
    os.utime(first, (1, 1))
    monkeypatch.setattr(notes, "LIMIT", 1)
    desk.noted("train", ROWS, "test", {"k": 2}, Counting())
    assert [path for path in desk.folder.iterdir() if path.is_dir()] != [first]
    assert not first.exists()


def test_numbers_come_back_to_the_last_bit(desk: Desk) -> None:
    values = np.random.default_rng(0).normal(size=16).astype(np.float32)

    def compute(batch: Batch) -> dict[tuple[notes.Per, str], mx.array]:
        return {("target", "x"): mx.array(values)[batch.targets]}

    made = [desk.noted("train", ROWS, "test", {}, compute) for _ in range(2)]
    for a, b in zip(*(rows.rows for rows in made), strict=True):
        assert np.array_equal(a.arrays["x"], b.arrays["x"])
