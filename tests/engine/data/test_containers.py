"""Files broken in every way: each row at its line, each problem with its code, memory bounded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.engine.data import containers
from training.engine.data.containers import Record
from training.engine.errors import DataError


def records(path: Path, content: bytes) -> list[Record]:
    path.write_bytes(content)
    return list(containers.read(path, containers.sniff(path)))


def told(found: list[Record]) -> list[tuple[int, object]]:
    return [(r.line, r.problem.code if r.problem else r.row) for r in found]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": 1}\n\n{"a": 2}', [(1, {"a": 1}), (3, {"a": 2})]),
        (b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\r\n', [(1, {"a": 1}), (2, {"a": 2})]),
        (b'{"a": 1}\n{"a": \n{"a": 3}\n', [(1, {"a": 1}), (2, "data.not_json"), (3, {"a": 3})]),
        (b'{"a": "\xff"}\n{"a": 2}\n', [(1, "data.not_utf8"), (2, {"a": 2})]),
        (b'{"a": "x\0y"}\n{"a": 2}\n', [(1, "data.nul_bytes"), (2, {"a": 2})]),
        (b'{"a": ' + b"[" * 200_000 + b"\n{}\n", [(1, "data.too_deep"), (2, {})]),
        (b'{"a": ' + b"9" * 5000 + b"}\n{}\n", [(1, "data.not_json"), (2, {})]),
        (b"{}\n3\nnull\n", [(1, {}), (2, 3), (3, None)]),
        (b'{}\n{"a": "' + b"x" * (9 << 20) + b'"}\n{}\n', [(1, {}), (2, "data.row_too_large"), (3, {})]),
    ],
)
def test_jsonl(tmp_path: Path, content: bytes, expected: list[tuple[int, object]]) -> None:
    assert told(records(tmp_path / "rows.jsonl", content)) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"a": 1},\n\n{"a": 2}\n]\n', [(1, {"a": 1}), (3, {"a": 2})]),
        (b"[]", []),
        (b'\xef\xbb\xbf\n[\n{"a":\n1}, 7]', [(3, {"a": 1}), (4, 7)]),
        (b'[{"a": 1},\n{"a": \n}, {}]', [(1, {"a": 1}), (3, "data.not_json")]),
        (b'[{"a": 1}\n{"a": 2}]', [(1, {"a": 1}), (2, "data.not_json")]),
        (b'[{"a": 1},\n', [(1, {"a": 1}), (2, "data.not_json")]),
        (b"[{}]\nmore", [(1, {}), (2, "data.not_json")]),
        (b'[{"a": "\xff"}]', [(1, "data.not_utf8")]),
        (b"[" * 200_000, [(1, "data.too_deep")]),
        (b'[{},\n{"a": "' + b"x" * (9 << 20) + b'"},\n{}]', [(1, {}), (2, "data.row_too_large"), (3, {})]),
        (b'[{},\n{"a": "' + b"x" * (17 << 20) + b'"},\n{}]', [(1, {}), (2, "data.row_too_large")]),
    ],
)
def test_json_list(tmp_path: Path, content: bytes, expected: list[tuple[int, object]]) -> None:
    assert told(records(tmp_path / "rows.json", content)) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n\n3,4\n", [(2, {"a": "1", "b": "2"}), (4, {"a": "3", "b": "4"})]),
        (b'\xef\xbb\xbfa,b\r\n"x\r\ny",2\r\n3,4\r\n', [(2, {"a": "x\r\ny", "b": "2"}), (4, {"a": "3", "b": "4"})]),
        (b"a;b\n1,5;2\n", [(2, {"a": "1,5", "b": "2"})]),
        (b"a,b\n1,2,3\n1\n4,5\n", [(2, "data.csv_columns"), (3, "data.csv_columns"), (4, {"a": "4", "b": "5"})]),
        (b'a,b\n"x"y,2\n3,4\n', [(2, "data.not_csv"), (3, {"a": "3", "b": "4"})]),
        (b'a,b\n1,2\n"open,2\n3,4\n', [(2, {"a": "1", "b": "2"}), (3, "data.not_csv")]),
        (b"a,b\n" + b"x" * (9 << 20) + b",1\n1,2\n", [(2, "data.row_too_large"), (3, {"a": "1", "b": "2"})]),
    ],
)
def test_csv(tmp_path: Path, content: bytes, expected: list[tuple[int, object]]) -> None:
    assert told(records(tmp_path / "rows.csv", content)) == expected


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.jsonl", b"", "empty_file"),
        ("a.csv", b"\n \r\n", "empty_file"),
        ("a.json", b"\xef\xbb\xbf", "empty_file"),
        ("a.jsonl", '{"text": "x"}'.encode("utf-16"), "encoding"),
        ("a.jsonl", '{"text": "x"}'.encode("utf-16-le"), "encoding"),
        ("a.jsonl", b"\x1f\x8b\x08\0", "compressed"),
        ("a.jsonl", b"PK\x03\x04", "compressed"),
        ("a.parquet", b"not parquet", "broken_container"),
        ("a.pkl", b"\x80\x04K\x01.", "container_unknown"),
        ("a.txt", b"Once upon a time", "container_unknown"),
        ("a.csv", b"a,a\n1,2\n", "csv_header"),
    ],
)
def test_file_that_is_none_of_ours(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    with pytest.raises(DataError) as caught:
        records(tmp_path / name, content)
    assert caught.value.code == f"data.{code}"


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        containers.sniff(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="no regular file"):
        containers.sniff(tmp_path)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(), max_size=3)))
def test_json_list_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    path = tmp_path_factory.mktemp("json") / "rows.json"
    found = records(path, json.dumps(rows, indent=1).encode())
    assert [record.row for record in found] == rows


def test_list_over_many_blocks_keeps_its_lines(tmp_path: Path) -> None:
    rows = [{"text": "é" * 5000, "n": n} for n in range(500)]  # 5 MB: rows lie across the blocks of 1 MiB
    found = records(
        tmp_path / "rows.json",
        b"[\n" + b",\n".join(json.dumps(row, ensure_ascii=False).encode() for row in rows) + b"\n]",
    )
    assert [record.row for record in found] == rows
    assert [record.line for record in found] == list(range(2, 502))
