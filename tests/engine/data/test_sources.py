"""Which files make a data set, which split their names tell, and that any bytes are handled."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from training.engine.data import sources
from training.engine.errors import DataError


def names(folder: Path, *files: str) -> list[tuple[str, str]]:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text('{"text": "x"}')
    return [(part.name, part.split) for part in sources.find(folder)]


def test_file_names_tell_the_split(tmp_path: Path) -> None:
    found = names(
        tmp_path, "train.jsonl", "validation.csv", "val_2.json", "dev/a.jsonl", "data/test-00000-of-1.parquet"
    )
    assert found == [
        ("data/test-00000-of-1.parquet", "test"),
        ("dev/a.jsonl", "valid"),
        ("train.jsonl", "train"),
        ("val_2.json", "valid"),
        ("validation.csv", "valid"),
    ]


def test_other_names_are_the_pool_and_other_files_are_passed_over(tmp_path: Path) -> None:
    assert names(tmp_path, "trainer.jsonl", "README.md", ".hidden.jsonl", "dataset_info.json", "b.csv") == [
        ("b.csv", "pool"),
        ("trainer.jsonl", "pool"),
    ]


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_link_is_refused(tmp_path: Path, linked: str) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    names(outside, "a.jsonl")
    inside.mkdir()
    (inside / "a.jsonl").symlink_to(outside / "a.jsonl") if linked == "file" else (inside / "b").symlink_to(outside)
    with pytest.raises(DataError) as caught:
        sources.find(inside)
    assert caught.value.code in ("data.link", "data.no_files")


def test_folder_without_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no JSONL"):
        sources.find(tmp_path)


_SUFFIX = st.sampled_from(["jsonl", "json", "csv", "parquet"])
_LEAD = st.sampled_from([b"", b"[", b"{", b"PAR1", b"ARROW1"])


@example(content=b"\xff\xff\xff\xff", suffix="jsonl", lead=b"")
@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200), suffix=_SUFFIX, lead=_LEAD)
def test_any_bytes_are_rows_or_named_problems(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str, lead: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / f"rows.{suffix}"
    path.write_bytes(lead + content)
    found = []
    with contextlib.suppress(DataError):  # any other error is ours and fails the test
        found = list(sources.read_file(path))
    assert all(record.line > 0 for record in found)
