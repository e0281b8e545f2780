"""Pairs, judged answers and questions out of Python's documentation: real, true, and split without leaks."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from training.engine.catalog.formats import FORMATS
from training.engine.commands import import_dataset
from training.engine.config.imports import DOCS_FORMS, ImportDatasetConfig
from training.engine.data import python_docs, python_lessons
from training.engine.data.python_docs import Doc
from training.engine.data.python_lessons import MARGINS, worse

LIMIT = 400


@pytest.fixture(scope="module", autouse=True)
def read_once() -> Iterator[None]:
    """The standard library is the same for every test: its sources are read once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(python_docs, "everything", functools.cache(python_docs.everything))
        yield


@pytest.fixture(scope="module")
def made() -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Split and row, by form."""
    found = {}
    for form in ("preference", "kto", "prompts"):
        rows = python_lessons.rows(form, LIMIT, 0.1, 0.1, seed=42)
        found[form] = [(part.split, record.row) for part, record in rows]
    return found


@pytest.mark.parametrize("form", ["preference", "kto", "prompts"])
def test_every_row_is_good_and_every_split_has_some(made: Any, form: str) -> None:
    assert all(FORMATS[form].normalise(row) == row for _, row in made[form])
    counted = Counter(split for split, _ in made[form])
    assert sum(counted.values()) == LIMIT
    assert min(counted["valid"], counted["test"]) >= 0.08 * LIMIT


def test_pairs_are_spoilt_in_the_shares_that_are_told(made: Any) -> None:
    margins = Counter(row["margin"] for _, row in made["preference"])
    assert set(margins) == set(MARGINS.values())
    assert 0.4 < margins[MARGINS["other"]] / LIMIT < 0.6


def test_labels_are_even_and_true(made: Any) -> None:
    right = {row["prompt"][0]["content"]: row["chosen"] for _, row in made["preference"]}
    for _, row in made["kto"]:
        assert (right[row["prompt"][0]["content"]] == row["completion"]) is row["label"]
    assert 0.4 < sum(row["label"] for _, row in made["kto"]) / LIMIT < 0.6


def test_no_text_of_one_split_stands_in_another(made: Any) -> None:
    summaries: dict[str, set[str]] = {}
    for split, row in made["preference"]:
        for text in (row["chosen"], row["rejected"]):
            if "Summary: " in text and "\n\n" in text.partition("Summary: ")[2]:
                summaries.setdefault(text, set()).add(split)
    assert len(summaries) == LIMIT
    assert all(len(splits) == 1 for splits in summaries.values())


def test_the_ways_to_spoil_an_answer() -> None:
    docs = [Doc("shutil", name, "function", f"Do something with {name}.") for name in "abcdefghijkl"]
    found = {worse(doc, docs)[0]: (doc, worse(doc, docs)[1]) for doc in docs}
    doc, text = found["broken"]
    assert doc.answer.startswith(text) and text.endswith("Do something")
    doc, text = found["bare"]
    assert text == doc.summary
    doc, text = found["other"]
    assert text in {other.answer for other in docs if other != doc}


def test_a_lone_entry_has_no_other_answer() -> None:
    for name in "abcdefghijkl":
        doc = Doc("shutil", name, "function", "Do something with it.")
        assert worse(doc, [doc])[0] in ("broken", "bare")


def test_answers_are_true_of_this_python(made: Any) -> None:
    checked = Counter[str]()
    for _, row in made["prompts"]:
        question, answer = row["prompt"][0]["content"], row["answer"]
        name = question.split("`")[1]
        if question.startswith("Which") and answer in ("shutil", "math", "json", "textwrap", "heapq"):
            assert hasattr(importlib.import_module(answer), name)
            checked["module"] += 1
        module, _, short = name.rpartition(".")
        if module in ("shutil", "math", "json", "textwrap", "heapq", "bisect"):
            value = getattr(importlib.import_module(module), short)
            if question.startswith("What is the first"):
                assert next(iter(inspect.signature(value).parameters)) == answer
                checked["parameter"] += 1
            elif question.startswith("Is "):
                assert inspect.isclass(value) == (answer in ("class", "exception"))
                checked["kind"] += 1
    assert min(checked[kind] for kind in ("module", "parameter", "kind")) >= 1


def test_names_that_stand_in_several_modules_are_not_asked_for() -> None:
    for name in map(str, range(20)):
        doc = Doc("ntpath", name, "function", "Normalise the case of a path.")
        (row,) = python_lessons.questions([doc], [doc, Doc("posixpath", name, "function", "")])
        assert row["answer"] == "function"


def test_the_same_rows_every_time(made: Any) -> None:
    again = [(part.split, record.row) for part, record in python_lessons.rows("kto", LIMIT, 0.1, 0.1, seed=42)]
    digests = [hashlib.sha256(json.dumps(rows).encode()).digest() for rows in (again, made["kto"])]
    assert digests[0] == digests[1]


def test_chat_is_what_it_always_was() -> None:
    old = [(p.split, r.row) for p, r in python_docs.rows(50, 0.1, 0.1, 42)]
    assert [(p.split, r.row) for p, r in python_lessons.rows("chat", 50, 0.1, 0.1, seed=42)] == old


@pytest.mark.parametrize("form", DOCS_FORMS)
def test_import_makes_all_three_splits(tmp_path: Path, form: str) -> None:
    source = {"kind": "python_docs", "form": form, "limit": 200}
    config = ImportDatasetConfig(source=source, target=tmp_path, valid_share=0.1, test_share=0.1)
    found = import_dataset.run(config)
    assert found["data_format"] == form
    assert set(found["rows"]) == {"train", "valid", "test"}
    assert found["report"]["ok"], found["report"]["problems"]
