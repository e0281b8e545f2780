"""A model answers a data set: rows that can be trained on, the same after a kill."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.engine import method_data, runs
from training.engine.commands import generate_dataset
from training.engine.config.derived import GenerateDatasetConfig
from training.engine.data.version_folder import check
from training.engine.errors import Exit, StopAsked
from training.engine.run.rundir import RunDir
from training.engine.run.session import Session

DRAW = {"seed": 1, "max_tokens": 12, "keep_cut": True, "temperature": 1.0}


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_dataset, "GROUP", 2)


@pytest.fixture
def asked(tiny_llama: Path, tmp_path: Path) -> dict[str, Any]:
    data = method_data.data(tmp_path / "data", "sft", train=5, valid=2)
    place = {"model": str(tiny_llama)}
    return {"schema": 1, "model": place, "data": str(data), "draw": DRAW, "target": str(tmp_path / "sets")}


class Stopping(Session):
    """Asks for an end when so many groups are done."""

    after = -1

    def check(self) -> None:
        done = self.run_dir.root / "answers.jsonl"
        if self.after >= 0 and done.exists() and len(done.read_text().splitlines()) - 1 >= self.after:
            raise StopAsked("signal SIGTERM", Exit.STOPPED)


def run(root: Path, asked: dict[str, Any], after: int = -1) -> Exit:
    run_dir = RunDir(root)
    session = Stopping(run_dir, run_dir.attempt(run_dir.newest_attempt() + 1))
    session.after = after
    made = session.run(lambda s: generate_dataset.run(GenerateDatasetConfig.model_validate(asked), s))
    assert session._lock is not None
    os.close(session._lock)  # as an ended process does
    return made


def rows(root: Path, split: str = "train") -> list[list[dict[str, str]]]:
    folder = Path(runs.last(root).fields["result"]["path"])
    return [json.loads(line)["messages"] for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def test_every_question_is_answered_in_its_split(asked: dict[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path / "run", asked) == Exit.FINISHED
    result = runs.last(tmp_path / "run").fields["result"]
    assert (result["rows"], result["data_format"]) == ({"train": 5, "valid": 2}, "chat")
    assert [turns[0]["content"] for turns in rows(tmp_path / "run")] == [f"What is {i}?" for i in range(5)]
    assert all(turns[1]["role"] == "assistant" and turns[1]["content"] for turns in rows(tmp_path / "run"))
    assert check(Path(result["path"]))["source"]["kind"] == "generated"


def test_a_stopped_run_goes_on_to_the_same_rows(asked: dict[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path / "whole", asked) == Exit.FINISHED
    assert run(tmp_path / "stopped", asked, after=2) == Exit.STOPPED
    before = (tmp_path / "stopped/answers.jsonl").read_text()
    with open(tmp_path / "stopped/answers.jsonl", "a") as file:
        file.write('["train 4", {"answ')  # torn by a kill
    assert run(tmp_path / "stopped", asked) == Exit.FINISHED
    assert (tmp_path / "stopped/answers.jsonl").read_text().startswith(before)
    one, other = (runs.last(tmp_path / name).fields["result"]["sha256"] for name in ("whole", "stopped"))
    assert one == other


def test_several_answers_to_a_question_are_several_rows(asked: dict[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path / "run", {**asked, "draw": {**DRAW, "samples": 3, "rows": 2}}) == Exit.FINISHED
    assert [turns[0]["content"] for turns in rows(tmp_path / "run")] == ["What is 0?"] * 3 + ["What is 1?"] * 3
    assert len({turns[1]["content"] for turns in rows(tmp_path / "run")}) == 6


def test_the_same_answer_stands_there_once(asked: dict[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path / "run", {**asked, "draw": {**DRAW, "samples": 3, "temperature": 0}}) == Exit.FINISHED
    assert len(rows(tmp_path / "run")) == 5


def test_the_same_question_is_asked_once(asked: dict[str, Any], tmp_path: Path) -> None:
    twice = runs.data(tmp_path / "twice", train=[runs.chat("Why?", "So."), runs.chat("Why?", "Well."), {"text": "x"}])
    assert run(tmp_path / "run", {**asked, "data": str(twice)}) == Exit.FINISHED
    assert len(rows(tmp_path / "run")) == 1


@pytest.mark.parametrize(
    ("code", "data", "draw"),
    [
        ("generate.no_questions", [{"text": "Nothing asked."}], DRAW),
        ("generate.no_answers", [runs.chat("Why?", "So.")], {"max_tokens": 1, "temperature": 0}),
        ("generate.no_answers", [runs.chat("Why? " * 2000, "So.")], DRAW),
    ],
)
def test_what_makes_no_row_is_refused(
    code: str, data: list[Any], draw: dict[str, Any], asked: dict[str, Any], tmp_path: Path
) -> None:
    folder = runs.data(tmp_path / "other", train=data)
    assert run(tmp_path / "run", {**asked, "data": str(folder), "draw": draw}) == Exit.DATA
    assert runs.last(tmp_path / "run").fields["code"] == code
    assert not list((tmp_path / "sets").glob("*"))


def test_what_was_made_can_be_trained_on(asked: dict[str, Any], tiny_llama: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "run", asked) == Exit.FINISHED
    folder = Path(runs.last(tmp_path / "run").fields["result"]["path"])
    assert runs.run(tmp_path / "training", runs.request(tiny_llama, folder, iters=2)) == Exit.FINISHED
