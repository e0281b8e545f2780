"""Paths, locks and published files of a run folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from training.engine.errors import StorageError
from training.engine.run.rundir import RunDir, hold, is_held, write_json


def test_attempts_are_counted_from_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert run.newest_attempt() == 0
    run.attempt(2).prepare(fence=7)
    (tmp_path / "attempts" / "notes").mkdir()
    assert (run.newest_attempt(), run.attempt(2).fence()) == (2, 7)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fence": null}', '{"fence": "x"}'])
def test_a_broken_attempt_file_has_fence_zero(text: str, tmp_path: Path) -> None:
    attempt = RunDir(tmp_path).attempt(1)
    attempt.prepare(fence=3)
    attempt.about.write_text(text)
    assert attempt.fence() == 0


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "run.lock"
    assert not is_held(path)
    fd = hold(path)
    assert fd is not None
    assert (hold(path), is_held(path)) == (None, True)
    os.close(fd)
    assert not is_held(path)


def test_what_is_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be made") as refused:
        hold(tmp_path / "file" / "run.lock")
    assert refused.value.code == "storage.folder"
    with pytest.raises(StorageError, match="cannot be opened"):
        hold(tmp_path)


def test_json_is_whole_or_absent(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"ü": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(StorageError, match=r"b\.json could not be written"):
        write_json(tmp_path / "missing" / "b.json", {})
