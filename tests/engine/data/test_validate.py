"""The report: planted faults at exact lines, counts, warnings, samples, lengths."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from training.engine.config.imports import ValidateConfig
from training.engine.data.validate import run


def row(n: int, answer: Any = "a") -> str:
    turns = [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns})


def report(path: Path, **more: Any) -> dict[str, Any]:
    return run(ValidateConfig(path=path, **more))


def test_planted_faults_stand_at_their_lines(tmp_path: Path) -> None:
    lines = [row(n) for n in range(1, 101)]
    lines[16] = lines[16][:-3]
    lines[29] = ""
    lines[41] = row(42, "")
    lines[54] = row(55, 3)
    lines[60] = row(1)
    lines[70] = '{"messages": [{"role": "user", "content": "x"}]}'
    lines[80] = '{"text": "x"}'
    lines[98] = '{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "x"}]}'
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = report(tmp_path / "a.jsonl")
    assert [(p["line"], p["code"]) for p in found["problems"]] == [
        (17, "data.not_json"),
        (42, "data.empty"),
        (55, "data.wrong_type"),
        (61, "data.duplicate"),
        (71, "data.last_turn"),
        (81, "data.missing_column"),
        (99, "data.bad_unicode"),
    ]
    assert (found["rows"], found["good"], found["bad"], found["ok"]) == (99, 93, 6, False)
    assert found["sentence"] == "99 rows, 6 of them with problems."


def test_good_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(row(n, "a" * n) for n in range(1, 101)))
    found = report(tmp_path / "a.jsonl")
    assert found["ok"]
    assert found["why"] == "Reads as chat, because column `messages` holds turns with `role` and `content`."
    assert (found["columns"], found["counts"], found["warnings"]) == (["messages"], {}, {})
    assert sum(rows for _, rows in found["characters"]["histogram"]) == 100
    assert found["characters"]["longest"] == len("question 100") + 100
    assert len(found["samples"]) == 5
    json.dumps(found, allow_nan=False)


def test_pairs_with_planted_faults(tmp_path: Path) -> None:
    pairs = [{"prompt": f"q{n}", "chosen": "good", "rejected": "bad", "margin": n} for n in range(1, 61)]
    pairs[10]["rejected"] = "good"
    pairs[20] |= {"chosen": "", "margin": "much"}
    pairs[30] = {"prompt": "q", "chosen": [{"role": "user", "content": "x"}], "rejected": "y"}
    pairs[40] = pairs[0]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    found = report(tmp_path / "a.jsonl")
    assert [(p["line"], p["code"], p["loc"]) for p in found["problems"]] == [
        (11, "data.same_answers", ["rejected"]),
        (21, "data.empty", ["chosen"]),
        (21, "data.bad_number", ["margin"]),
        (31, "data.last_turn", ["chosen", 0]),
        (41, "data.duplicate", []),
    ]
    assert found["why"] == "Reads as preference, because it has the columns `chosen` and `rejected`."
    assert found["answers"]["pairs"] == found["answers"]["rated"] == 57
    assert found["samples"][0]["row"] == {
        "prompt": [{"role": "user", "content": "q1"}], "chosen": "good", "rejected": "bad", "margin": 1.0,
    }  # fmt: skip


def test_csv_of_judged_answers(tmp_path: Path) -> None:
    lines = [f"q{n},a{n},{'True' if n % 4 else '0'}" for n in range(80)]
    (tmp_path / "a.csv").write_text("\n".join(["prompt,completion,label", *lines, "q,a,maybe"]) + "\n")
    found = report(tmp_path / "a.csv")
    assert (found["data_format"], found["counts"]) == ("kto", {"data.bad_label": 1})
    assert found["answers"] == {"judged": 80, "good_share": 0.75}


def test_csv_lines_are_those_of_the_file(tmp_path: Path) -> None:
    with open(tmp_path / "a.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("prompt", "completion"), ("one", "two\nlines"), ("p", ""), ("q", "b"), ("", "c")])
    found = report(tmp_path / "a.csv")
    assert found["data_format"] == "completion"
    assert [(p["line"], p["loc"]) for p in found["problems"] if p["level"] == "error"] == [
        (4, ["completion"]),
        (6, ["prompt"]),
    ]


def test_csv_with_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text\ngood\nbad \xff\n")
    found = report(tmp_path / "a.csv")
    assert [(p["line"], p["code"]) for p in found["problems"] if p["level"] == "error"] == [(3, "data.bad_unicode")]


def test_parquet_names_the_row(tmp_path: Path) -> None:
    table = pa.table({"instruction": ["q"] * 60, "input": [None] * 60, "output": ["a"] * 40 + [None] + ["a"] * 19})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    found = report(tmp_path / "a.parquet")
    assert found["data_format"] == "alpaca"
    assert found["counts"] == {"data.empty": 1}
    assert found["warnings"] == {"data.duplicate": 58}
    assert [p["line"] for p in found["problems"] if p["level"] == "error"] == [41]


def test_folder_finds_rows_on_both_sides(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("\n".join(map(row, range(60))))
    (tmp_path / "valid.jsonl").write_text("\n".join(map(row, range(59, 65))))
    found = report(tmp_path)
    assert found["splits"] == {"train": 60, "valid": 6}
    [problem] = found["problems"]
    assert (problem["file"], problem["line"], problem["code"]) == ("valid.jsonl", 1, "data.in_two_splits")
    assert problem["message"] == "The row also stands in train (train.jsonl, line 60)."


def test_many_problems_are_counted_and_few_listed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(["{"] * 50 + [row(1)]))
    found = report(tmp_path / "a.jsonl", max_problems=3)
    assert found["counts"] == {"data.not_json": 50}
    assert len([p for p in found["problems"] if p["code"] == "data.not_json"]) == 3


@pytest.mark.parametrize(
    ("content", "code", "part"),
    [
        ("", "data.empty_file", "a.jsonl is empty."),
        ('{"x": 1, "y": 2}\n', "data.unknown_format", "The columns are `x`, `y`."),
        ("{\n" * 200, "data.no_rows", "Line 1: No valid JSON"),
        ('{"text": ""}', "data.no_rows", "No row can be trained on."),
    ],
)
def test_hopeless_file_gets_one_sentence(tmp_path: Path, content: str, code: str, part: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    found = report(tmp_path / "a.jsonl")
    assert not found["ok"]
    assert [p for p in found["problems"] if p["code"] == code and part in p["message"]]


def test_chosen_format_is_used(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"instruction": "q", "output": "a", "text": "whole"}')
    found = report(tmp_path / "a.jsonl", data_format="text")
    assert found["samples"][0]["row"] == {"text": "whole"}


def test_row_in_normal_form_may_not_be_too_large(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x" * (1 << 20)}))
    assert report(tmp_path / "a.jsonl")["counts"]["data.row_too_large"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce RLIMIT_AS")
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """A line of 300 MB is passed over in a process that may not have more than 250 MB more than it starts with."""
    with open(tmp_path / "a.jsonl", "wb") as file:
        file.write(row(1).encode() + b'\n{"messages": "')
        file.truncate(300 << 20)
        file.seek(300 << 20)
        file.write(b'"}\n' + row(3).encode())
    script = (
        "import json, resource, sys; from training.engine.data.validate import run; "
        "from training.engine.config.imports import ValidateConfig; "
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize(); "
        "resource.setrlimit(resource.RLIMIT_AS, (used + (250 << 20),) * 2); "
        "print(json.dumps(run(ValidateConfig(path=sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.jsonl"], capture_output=True, check=True, timeout=60
    )
    found = json.loads(done.stdout)
    assert (found["good"], found["counts"]) == (2, {"data.row_too_large": 1})
    assert [p["line"] for p in found["problems"] if p["level"] == "error"] == [2]
