"""Pieces of work are done once, whatever ends the process in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.engine.errors import StorageError
from training.engine.run.records import Records


def test_a_piece_is_computed_once_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    first = Records(tmp_path / "r.jsonl", "a").of("x", lambda: [0.1 + 0.2, "\u2028é"])
    assert Records(tmp_path / "r.jsonl", "a").of("x", lambda: pytest.fail("again")) == first == [0.1 + 0.2, "\u2028é"]


def test_a_torn_line_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    Records(path, "a").of("x", lambda: 1)
    path.write_text(path.read_text() + '["y", 2]')
    again = Records(path, "a")
    assert "x" in again and "y" not in again and again.of("y", lambda: 3) == 3
    assert Records(path, "a").of("y", lambda: 4) == 3


def test_pieces_of_another_request_are_thrown_away(tmp_path: Path) -> None:
    Records(tmp_path / "r.jsonl", "a").of("x", lambda: 1)
    assert "x" not in Records(tmp_path / "r.jsonl", "b")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"r\.jsonl cannot be written"):
        Records(tmp_path / "nowhere" / "r.jsonl", "a")
