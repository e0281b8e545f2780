"""Parquet and Arrow files, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from training.engine.data import sources
from training.engine.errors import DataError

TABLE = pa.table({"prompt": [f"p{n}" for n in range(700)], "completion": ["c"] * 700, "picture": [b"\xff"] * 700})


def test_parquet_gives_known_columns_only_and_numbers_rows(tmp_path: Path) -> None:
    pa.parquet.write_table(TABLE, tmp_path / "a.parquet", row_group_size=300)
    found = list(sources.read_file(tmp_path / "a.parquet"))
    assert [record.line for record in found] == list(range(1, 701))
    assert found[-1].row == {"prompt": "p699", "completion": "c"}
    assert found[-1].at == (tmp_path / "a.parquet").stat().st_size


def test_arrow_file_and_stream(tmp_path: Path) -> None:
    with pa.ipc.new_file(tmp_path / "a.arrow", TABLE.schema) as file:
        file.write_table(TABLE)
    with pa.ipc.new_stream(tmp_path / "b.arrow", TABLE.schema) as file:
        file.write_table(TABLE)
    one, two = (list(sources.read_file(tmp_path / name)) for name in ("a.arrow", "b.arrow"))
    assert [record.row for record in one] == [record.row for record in two]
    assert len(one) == 700


def test_turns_in_a_column(tmp_path: Path) -> None:
    turns = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]]
    pa.parquet.write_table(pa.table({"messages": turns}), tmp_path / "a.parquet")
    assert [record.row for record in sources.read_file(tmp_path / "a.parquet")] == [{"messages": turns[0]}]


def test_unknown_columns_are_all_read_so_that_they_can_be_named(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"x": [1], "y": [2]}), tmp_path / "a.parquet")
    assert [record.row for record in sources.read_file(tmp_path / "a.parquet")] == [{"x": 1, "y": 2}]


@pytest.mark.parametrize("keep", [6, 1000, -20])
def test_truncated_parquet_is_named(tmp_path: Path, keep: int) -> None:
    pa.parquet.write_table(TABLE, tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:keep])
    with pytest.raises(DataError) as caught:
        list(sources.read_file(tmp_path / "a.parquet"))
    assert caught.value.code == "data.broken_container"


def test_parquet_without_rows(tmp_path: Path) -> None:
    pa.parquet.write_table(TABLE.slice(0, 0), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="holds no rows"):
        list(sources.read_file(tmp_path / "a.parquet"))
