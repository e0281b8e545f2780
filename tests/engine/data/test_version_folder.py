"""A version is complete or absent, never changes, and is named by its content."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from pathlib import Path

import pytest

from training.engine.data import version_folder
from training.engine.data.version_folder import Draft
from training.engine.errors import DataError, StorageError

TRAIN = b'{"text":"a"}\n{"text":"b"}\n'


def publish(target: Path, train: bytes = TRAIN, data_format: str = "text") -> tuple[Path, str, bool]:
    draft = Draft(target)
    try:
        (draft.folder / "train.jsonl").write_bytes(train)
        (draft.folder / "valid.jsonl").write_bytes(b"")
        return draft.publish(data_format, {"source": {"kind": "file"}})
    finally:
        draft.drop()


def test_name_is_what_the_docstring_says(tmp_path: Path) -> None:
    path, name, _ = publish(tmp_path)
    inner = hashlib.sha256(TRAIN).hexdigest()
    assert name == hashlib.sha256(f"mlxp-dataset 1\ntext\ntrain {inner}\n".encode()).hexdigest()
    assert path == tmp_path / name


def test_name_covers_rows_and_format(tmp_path: Path) -> None:
    names = {publish(tmp_path)[1], publish(tmp_path, TRAIN[:13])[1], publish(tmp_path, data_format="chat")[1]}
    assert len(names) == 3


def test_folder_holds_rows_and_about_only_and_cannot_be_written(tmp_path: Path) -> None:
    path, name, _ = publish(tmp_path)
    assert sorted(os.listdir(path)) == ["about.json", "train.jsonl"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o444}
    about = json.loads((path / "about.json").read_text())
    assert (about["schema"], about["sha256"], about["files"]["train"]["rows"]) == (1, name, 2)


def test_same_rows_are_there_already(tmp_path: Path) -> None:
    first, again = publish(tmp_path), publish(tmp_path)
    assert (first[2], again[2], first[0]) == (False, True, again[0])
    assert os.listdir(tmp_path) == [first[1]]


def test_changed_version_is_refused(tmp_path: Path) -> None:
    path, _, _ = publish(tmp_path)
    (path / "train.jsonl").chmod(0o600)
    (path / "train.jsonl").write_bytes(b'{"text":"A"}\n{"text":"b"}\n')
    with pytest.raises(DataError) as caught:
        publish(tmp_path)
    assert caught.value.code == "data.version_damaged"


def test_dropped_draft_leaves_nothing(tmp_path: Path) -> None:
    Draft(tmp_path / "data").drop()
    assert os.listdir(tmp_path / "data") == []


def test_draft_of_a_dead_import_is_swept_and_a_live_one_kept(tmp_path: Path) -> None:
    live, dead = Draft(tmp_path), Draft(tmp_path)
    os.close(dead._lock or -1)  # what the system does when a process dies
    dead._lock = None
    long_ago = time.time() - 3600
    os.utime(live.folder, (long_ago, long_ago))
    os.utime(dead.folder, (long_ago, long_ago))
    fresh = Draft(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {live.folder.name, fresh.folder.name}
    live.drop()
    fresh.drop()


def test_target_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError) as caught:
        Draft(tmp_path / "file" / "data")
    assert caught.value.code == "storage.write"


def test_version_whose_about_is_lost_is_damaged(tmp_path: Path) -> None:
    path, _, _ = publish(tmp_path)
    (path / "about.json").unlink()
    with pytest.raises(DataError, match="was changed or is incomplete"):
        version_folder.check(path)
