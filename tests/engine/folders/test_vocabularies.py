"""Whether a model can teach another one, told from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.engine.folders import vocabularies


def model(folder: Path, vocabulary: Any, added: list[dict[str, Any]] | None = None, **config: Any) -> Path:
    folder.mkdir()
    words = {"model": {"vocab": vocabulary}, "added_tokens": added or []}
    (folder / "tokenizer.json").write_text(json.dumps(words))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_same_tokens_in_another_file_are_the_same(tmp_path: Path) -> None:
    one = model(tmp_path / "one", {"a": 0, "b": 1}, [{"id": 2, "content": "<s>"}])
    other = model(tmp_path / "other", {"b": 1, "a": 0, "<s>": 2})
    assert vocabularies.problem(one, other) is None


def test_pairs_with_scores_are_a_vocabulary_too(tmp_path: Path) -> None:
    one, other = model(tmp_path / "one", [["a", -1.0], ["b", -2.0]]), model(tmp_path / "other", {"a": 0, "b": 1})
    assert vocabularies.problem(one, other) is None


def test_a_difference_is_named(tmp_path: Path) -> None:
    one, other = model(tmp_path / "one", {"a": 0, "b": 1, "c": 2}), model(tmp_path / "other", {"a": 0, "c": 1, "b": 2})
    found = vocabularies.problem(one, other)
    assert found is not None and found.code == "teacher.other_tokenizer"
    assert "2 of the student's 3 tokens" in found.message
    assert "token 1, 'b', is its number 2" in found.message


def test_a_token_that_the_teacher_lacks_is_one(tmp_path: Path) -> None:
    one = model(tmp_path / "one", {"a": 0}, [{"id": 1, "content": "<tool>"}])
    other = model(tmp_path / "other", {"a": 0})
    found = vocabularies.problem(one, other)
    assert found is not None and "'<tool>', is unknown to it" in found.message
    assert vocabularies.problem(other, one) is None


@pytest.mark.parametrize("text", ["", "[1]", '{"model": {}}', '{"model": {"vocab": 5}}'])
def test_a_broken_file_is_left_to_who_loads_it(text: str, tmp_path: Path) -> None:
    one, other = model(tmp_path / "one", {"a": 0}), model(tmp_path / "other", {"a": 0})
    (other / "tokenizer.json").write_text(text)
    assert vocabularies.problem(one, other) is None


def test_a_large_file_is_left_to_the_engine(tmp_path: Path) -> None:
    one, other = model(tmp_path / "one", {"a": 0}), model(tmp_path / "other", {"b": 0})
    assert vocabularies.problem(one, other, most_bytes=10) is None
    assert vocabularies.problem(one, other) is not None


def test_more_tokens_than_there_are(tmp_path: Path) -> None:
    plain = model(tmp_path / "plain", {}, vocab_size=50)
    nested = model(tmp_path / "nested", {}, text_config={"vocab_size": 40})
    assert (vocabularies.size(plain), vocabularies.size(nested), vocabularies.size(tmp_path)) == (50, 40, None)
    assert vocabularies.beyond(50, plain) is None
    found = vocabularies.beyond(50, nested)
    assert found is not None and found.code == "teacher.top_k"
