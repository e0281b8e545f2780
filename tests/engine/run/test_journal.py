"""The journal: appended, counted, readable whatever stands in it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from training.engine.errors import StorageError
from training.engine.run import journal
from training.engine.run.journal import MAX_LINE, Journal, last_word, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def row(n: int, event: str = "log", **fields: object) -> bytes:
    return json.dumps({"v": 1, "n": n, "t": 1.5, "event": event} | fields).encode() + b"\n"


def test_what_is_written_is_read(path: Path) -> None:
    book = Journal(path)
    book.write("phase", name="load")
    book.log("Grüße", "warning")
    events, offset = read(path)
    assert [(e.n, e.event, e.fields) for e in events] == [
        (1, "phase", {"name": "load"}),
        (2, "log", {"level": "warning", "message": "Grüße"}),
    ]
    assert (read(path, offset), offset) == (([], offset), path.stat().st_size)


def test_a_torn_last_line_waits_for_its_rest(path: Path) -> None:
    path.write_bytes(row(1) + row(2)[:10])
    events, offset = read(path)
    assert [e.n for e in events] == [1]
    path.write_bytes(row(1) + row(2))
    assert [e.n for e in read(path, offset)[0]] == [2]


def test_a_second_writer_closes_the_torn_line_and_counts_on(path: Path) -> None:
    path.write_bytes(row(1) + row(2)[:10])
    Journal(path).log("again")
    assert [(e.n, e.fields.get("message")) for e in read(path)[0]] == [(1, None), (2, "again")]


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"n": 1}',
        b'{"n": "x", "t": 1, "event": "log"}',
        b"\xff\xfe",
        b"[" * 100000,
        b'{"n": Infinity, "t": 1, "event": "log"}',
        b"null",
        b'"text"',
    ],
)
def test_a_line_that_is_no_event_is_passed_over(line: bytes, path: Path) -> None:
    path.write_bytes(line + b"\n" + row(2))
    assert [e.n for e in read(path)[0]] == [2]


def test_an_absurdly_long_line_is_passed_over(path: Path) -> None:
    path.write_bytes(row(1) + b"x" * (3 * MAX_LINE) + b"\n" + row(2))
    found, offset = [], 0
    for _ in range(20):
        events, offset = read(path, offset, limit=MAX_LINE)
        found += [e.n for e in events]
    assert (found, offset) == ([1, 2], path.stat().st_size)


@pytest.mark.parametrize("value", ["x" * (2 * MAX_LINE), {"deep": ["x" * (2 * MAX_LINE)]}])
def test_an_event_too_long_is_cut_and_stays_an_event(value: object, path: Path) -> None:
    Journal(path).write("finished", result=value)
    word = last_word(path)
    assert word is not None
    assert path.stat().st_size < MAX_LINE


def test_foreign_keys_are_kept(path: Path) -> None:
    path.write_bytes(row(1, "metrics", step=3, of_tomorrow={"a": 1}))
    assert read(path)[0][0].fields == {"step": 3, "of_tomorrow": {"a": 1}}


def test_numbers_that_are_none_are_words(path: Path) -> None:
    Journal(path).write("metrics", step=1, values={"a": math.nan, "b": [math.inf, -math.inf], "c": 1.5})
    assert b"NaN" not in path.read_bytes()
    values = read(path)[0][0].fields["values"]
    assert values == {"a": "nan", "b": ["inf", "-inf"], "c": 1.5}
    assert [journal.number(v) for v in ("nan", True, 2, 1.5, math.inf)] == [None, None, 2.0, 1.5, None]


def test_half_a_letter_is_no_reason_to_stop(path: Path) -> None:
    Journal(path).log("bad \ud800 row")
    assert read(path)[0][0].fields["message"] == "bad ? row"


def test_last_word(path: Path) -> None:
    assert last_word(path) is None
    path.write_bytes(row(1) + row(2, "stopped", why="signal SIGTERM") + row(3) + row(4)[:9])
    word = last_word(path)
    assert word is not None
    assert (word.event, word.fields["why"]) == ("stopped", "signal SIGTERM")


def test_last_word_of_a_long_journal(path: Path) -> None:
    path.write_bytes(row(1, message="x" * 1000) * 4000 + row(2, "finished"))
    word = last_word(path)
    assert word is not None
    assert word.event == "finished"


def test_an_event_outside_the_list_is_a_mistake(path: Path) -> None:
    with pytest.raises(ValueError, match="no event"):
        Journal(path).write("metric")


def test_a_full_disk_is_said_once_and_the_last_word_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book, write = Journal(path), os.write
    book.log("before")

    def full(fd: int, data: bytes) -> int:
        write(fd, bytes(data)[:7])  # what still fitted
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError) as refused:
        book.log("lost")
    assert refused.value.code == "storage.journal"
    book.log("lost, too")
    monkeypatch.setattr(os, "write", write)
    book.write("failed", code="storage.journal")
    assert [(e.n, e.event) for e in read(path)[0]] == [(1, "log"), (2, "failed")]
