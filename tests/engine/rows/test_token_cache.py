"""Tokens that are kept: the same rows, a name for everything that decides them, and never a reason to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine import runs
from tests.engine.examples import one
from training.engine.config.training import TrainConfig, check
from training.engine.errors import Exit
from training.engine.rows import token_cache
from training.engine.rows.batches import Rows

ROWS = Rows([one([5, 6, 7], [False, True, True], 2), one([9], [False], 0)], 3, 1)


def refuse() -> Rows:
    raise AssertionError("made again")


@pytest.mark.parametrize("rows", [ROWS, Rows([], 0, 0)])
def test_rows_come_back_as_they_were(rows: Rows, tmp_path: Path) -> None:
    assert token_cache.through(tmp_path, "k", lambda: rows) == rows
    assert token_cache.through(tmp_path, "k", refuse) == rows


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no archive"])
def test_a_broken_file_is_made_anew(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "k.npz").write_bytes(content)
    assert token_cache.through(tmp_path, "k", lambda: ROWS) == ROWS
    assert token_cache.through(tmp_path, "k", refuse) == ROWS


def test_without_a_folder_or_room_it_is_made_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert token_cache.through(None, "k", lambda: ROWS) == ROWS
    assert token_cache.through(tmp_path / "file", "k", lambda: ROWS) == ROWS


def test_the_oldest_go_when_it_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        token_cache.through(tmp_path, name, lambda: ROWS)
    size = (tmp_path / "a.npz").stat().st_size
    monkeypatch.setattr(token_cache, "LIMIT", 2 * size)
    token_cache.through(tmp_path, "a", refuse)
    token_cache.through(tmp_path, "c", lambda: ROWS)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c"]


CHANGES: list[dict[str, Any]] = [{"max_seq_length": 100}, {"method": {"train_on": "all"}}]


def test_everything_that_decides_has_a_part_in_the_name(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.data(tmp_path / "data")
    config = runs.request(tiny_llama, data)
    keys = [token_cache.key(check(TrainConfig, config | change), data / "train.jsonl") for change in [{}, *CHANGES]]
    (data / "train.jsonl").write_text((data / "train.jsonl").read_text().replace("0", "1", 1))
    keys.append(token_cache.key(check(TrainConfig, config), data / "train.jsonl"))
    assert len(set(keys)) == 4
    same = check(TrainConfig, config | {"learning_rate": 0.5, "seed": 9})
    assert token_cache.key(same, data / "train.jsonl") == keys[-1]


def test_a_second_training_takes_them(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.data(tmp_path / "data")
    config = runs.request(tiny_llama, data, iters=1, kernel_cache=str(tmp_path / "cache" / "kernels"))
    assert runs.run(tmp_path / "one", config) == Exit.FINISHED
    made = {path: path.stat().st_ino for path in (tmp_path / "cache" / "tokens").iterdir()}
    assert runs.run(tmp_path / "two", config) == Exit.FINISHED
    assert {path: path.stat().st_ino for path in (tmp_path / "cache" / "tokens").iterdir()} == made
    assert runs.points(tmp_path / "one") == runs.points(tmp_path / "two")
