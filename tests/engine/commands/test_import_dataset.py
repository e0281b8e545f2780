"""Imports for real: splits, refusals, the same result twice, and death in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.tuner.datasets import ChatDataset, load_local_dataset

from training.engine.commands.import_dataset import run, thresholds
from training.engine.config.imports import ImportDatasetConfig
from training.engine.errors import DataError


class Said:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int | None, int | None]] = []
        self.logs: list[tuple[str, str]] = []

    def phase(self, name: str, done: int | None = None, total: int | None = None, detail: str = "") -> None:
        self.phases.append((name, done, total))

    def log(self, message: str, level: str = "info") -> None:
        self.logs.append((level, message))


def write(path: Path, numbers: range | list[int]) -> None:
    path.write_text("".join(json.dumps({"prompt": f"p{n}", "completion": "c"}) + "\n" for n in numbers))


def imported(source: Path, target: Path, **more: Any) -> dict[str, Any]:
    return run(ImportDatasetConfig(source={"kind": "file", "path": source}, target=target, **more))


def rows(result: dict[str, Any], split: str) -> list[Any]:
    return [json.loads(line) for line in (Path(result["path"]) / f"{split}.jsonl").read_text().splitlines()]


def test_file_is_split_by_share(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", range(200))
    found = imported(tmp_path / "a.jsonl", tmp_path / "data", valid_share=0.1, test_share=0.05)
    assert found["rows"] == {"train": 170, "valid": 20, "test": 10}
    together = [row["prompt"] for split in found["rows"] for row in rows(found, split)]
    assert sorted(together) == sorted(f"p{n}" for n in range(200))


def test_split_depends_on_rows_and_seed_not_on_places(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", range(100))
    write(tmp_path / "b.jsonl", list(range(99, -1, -1)))
    one, two = (imported(tmp_path / name, tmp_path / "data", valid_share=0.2) for name in ("a.jsonl", "b.jsonl"))
    other = imported(tmp_path / "a.jsonl", tmp_path / "data", valid_share=0.2, seed=7)
    assert sorted(map(str, rows(one, "valid"))) == sorted(map(str, rows(two, "valid")))
    assert rows(other, "valid") != rows(one, "valid")


def test_equal_rows_stay_on_one_side(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [n // 4 for n in range(400)])
    found = imported(tmp_path / "a.jsonl", tmp_path / "data", valid_share=0.3)
    sides = [{row["prompt"] for row in rows(found, split)} for split in ("train", "valid")]
    assert not sides[0] & sides[1]


def test_answers_to_one_prompt_stay_on_one_side(tmp_path: Path) -> None:
    judged = [{"prompt": f"q{n // 4}", "completion": f"a{n}", "label": n % 2} for n in range(400)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in judged))
    found = imported(tmp_path / "a.jsonl", tmp_path / "data", valid_share=0.2, test_share=0.1)
    assert (found["data_format"], found["rows"]) == ("kto", {"train": 280, "valid": 80, "test": 40})
    sides = [{row["prompt"][0]["content"] for row in rows(found, split)} for split in found["rows"]]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_pairs_in_parquet(tmp_path: Path) -> None:
    turns = [[{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}] for n in range(20)]
    worse = [[pair[0], {"role": "assistant", "content": "no"}] for pair in turns]
    columns = {"chosen": turns, "rejected": worse, "score_chosen": [1.5] * 20, "score_rejected": [1.0] * 20}
    pa.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = imported(tmp_path / "a.parquet", tmp_path / "data", valid_share=0)
    assert found["report"]["answers"] == {"pairs": 20, "rated": 20, "mean_margin": 0.5, "chosen_longer": 0.5}
    assert rows(found, "train")[3] == {
        "prompt": [{"role": "user", "content": "q3"}], "chosen": "a3", "rejected": "no", "margin": 0.5,
    }  # fmt: skip


def test_given_splits_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", range(50))
    write(tmp_path / "validation.jsonl", range(50, 60))
    found = imported(tmp_path, tmp_path / "data", valid_share=0.5)
    assert found["rows"] == {"train": 50, "valid": 10}


def test_test_rows_alone_cannot_train(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", range(5))
    with pytest.raises(DataError, match="no rows to train on"):
        imported(tmp_path, tmp_path / "data")
    assert os.listdir(tmp_path / "data") == []


def test_same_rows_twice_are_one_version(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", range(30))
    (tmp_path / "b.csv").write_text("prompt,completion\n" + "".join(f"p{n},c\n" for n in range(30)))
    one, two = imported(tmp_path / "a.jsonl", tmp_path / "data"), imported(tmp_path / "b.csv", tmp_path / "data")
    assert (one["sha256"], one["already_there"], two["already_there"]) == (two["sha256"], False, True)


def test_hash_is_settled(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", range(30))
    found = imported(tmp_path / "a.jsonl", tmp_path / "data")
    assert found["sha256"] == "6789268d5137288aaefb2aac4a1fd0819b6426f2b1abd3867fc95e958fe51dd8"


def test_bad_rows_refuse_the_file_with_their_lines(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", range(30))
    with open(tmp_path / "a.jsonl", "a") as file:
        file.write('{"prompt": "p"\n{"prompt": "p", "completion": ""}\n')
    with pytest.raises(DataError) as caught:
        imported(tmp_path / "a.jsonl", tmp_path / "data")
    assert [(p.loc[:2], p.code) for p in caught.value.problems] == [
        (("a.jsonl", 31), "data.not_json"),
        (("a.jsonl", 32), "data.empty"),
    ]
    assert str(caught.value).startswith("2 of 32 rows have problems. a.jsonl, line 31: No valid JSON")
    assert os.listdir(tmp_path / "data") == []


def test_bad_rows_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", range(30))
    with open(tmp_path / "a.jsonl", "a") as file:
        file.write("{\n")
    found = imported(tmp_path / "a.jsonl", tmp_path / "data", skip_bad_rows=True)
    assert sum(found["rows"].values()) == 30
    assert found["report"]["bad"] == 1


def test_most_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", range(30))
    assert sum(imported(tmp_path / "a.jsonl", tmp_path / "data", max_rows=10)["rows"].values()) == 10


def test_one_row_trains_and_warns(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [1])
    said = Said()
    found = run(
        ImportDatasetConfig(source={"kind": "file", "path": tmp_path / "a.jsonl"}, target=tmp_path / "data"), said
    )
    assert found["rows"] == {"train": 1}
    assert said.logs[0][0] == "warning"


def test_progress_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", range(25_000))
    said = Said()
    run(ImportDatasetConfig(source={"kind": "file", "path": tmp_path / "a.jsonl"}, target=tmp_path / "data"), said)
    size = (tmp_path / "a.jsonl").stat().st_size
    read = [(done, total) for name, done, total in said.phases if name == "read"]
    assert len(read) >= 3
    assert read == sorted(read)
    assert read[-1] == (size, size)


def test_parquet_becomes_rows_that_stock_mlx_lm_reads(tmp_path: Path) -> None:
    table = pa.table({"instruction": [f"q{n}" for n in range(20)], "input": [""] * 20, "output": ["a"] * 20})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    found = imported(tmp_path / "a.parquet", tmp_path / "data")
    train, valid, _ = load_local_dataset(Path(found["path"]), None, object())
    assert isinstance(train, ChatDataset)
    assert (len(train), len(valid)) == (19, 1)


def test_python_docs(tmp_path: Path) -> None:
    config = ImportDatasetConfig(
        source={"kind": "python_docs", "limit": 200}, target=tmp_path, valid_share=0.1, test_share=0.05
    )
    one, two = run(config), run(config)
    assert one["rows"] == {"train": 170, "valid": 20, "test": 10}
    assert (one["sha256"], two["already_there"]) == (two["sha256"], True)


def test_death_in_the_middle_leaves_no_version(tmp_path: Path) -> None:
    """A named pipe would be refused, so the child is stopped where its reporter first speaks."""
    write(tmp_path / "a.jsonl", range(30_000))
    script = (
        "import sys, time; from training.engine.commands.import_dataset import run; "
        "from training.engine.config.imports import ImportDatasetConfig\n"
        "class Say:\n"
        "    def log(self, *a): pass\n"
        "    def phase(self, *a, **k): print('here', flush=True); time.sleep(60)\n"
        "run(ImportDatasetConfig(source={'kind': 'file', 'path': sys.argv[1]}, target=sys.argv[2]), Say())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "a.jsonl", tmp_path / "data"], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"
        child.send_signal(signal.SIGKILL)
    [left] = (tmp_path / "data").iterdir()
    assert left.name.startswith(".importing-")
    long_ago = time.time() - 3600
    os.utime(left, (long_ago, long_ago))
    found = imported(tmp_path / "a.jsonl", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == [found["sha256"]]


def test_full_disk_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", range(3000))
    script = (
        "import resource, signal, sys; from training.engine.commands.import_dataset import run; "
        "from training.engine.config.imports import ImportDatasetConfig; "
        "from training.engine.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: run(ImportDatasetConfig(source={'kind': 'file', 'path': sys.argv[1]}, target=sys.argv[2]))\n"
        "except StorageError as error: print(error.code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.jsonl", tmp_path / "data"], capture_output=True, timeout=60
    )
    assert done.stdout == b"storage.full\n", done.stderr
    assert os.listdir(tmp_path / "data") == []


@settings(max_examples=200, deadline=None)
@given(
    keys=st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=200),
    test=st.floats(0, 0.99),
    valid=st.floats(0, 0.99),
)
def test_a_row_is_always_left_for_training(keys: list[int], test: float, valid: float) -> None:
    first, second = thresholds(array("Q", keys), test, valid)
    assert first <= second <= max(keys)
    assert (min(keys) < first) == (test > 0 and len(set(keys)) > 1)
