"""Rules at the evaluations of a training: what they find, and what they leave as it is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.engine import method_data, runs
from training.engine.errors import Exit

RULES = ["length at_most=4 weight=2", "regex pattern='^$'", "exact_answer"]


def evaluated(root: Path) -> list[dict[str, float]]:
    return [e.fields["values"] for e in runs.events(root) if e.event == "evaluated"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return runs.data(tmp_path / "data", train=runs.rows(6), valid=runs.rows(5))


def request(model: Path, data: Path, **settings: Any) -> dict[str, Any]:
    return runs.request(model, data, iters=2, steps_per_eval=1, eval_tokens=4, eval_rows=3, **settings)


def test_each_evaluation_has_the_rules_means_and_the_perplexity(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    assert runs.run(tmp_path / "a", request(tiny_llama, data, eval_rules=RULES)) == Exit.FINISHED
    found = evaluated(tmp_path / "a")
    assert len(found) == 3
    for values in found:
        assert values["val_length"] == 1 and values["val_exact_answer"] == 0
        assert values["val_rule_score"] == pytest.approx(2 + values["val_regex"])
        assert values["val_perplexity"] == pytest.approx(math.exp(values["val_loss"]))


def test_they_change_nothing_of_the_training(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    adapter = {"name": "lora", "dropout": 0.5}
    for name, rules in (("a", RULES), ("b", [])):
        config = request(tiny_llama, data, eval_rules=rules, adapter=adapter)
        assert runs.run(tmp_path / name, config) == Exit.FINISHED
    runs.assert_same(tmp_path / "a", tmp_path / "b", 2)


def test_a_loss_that_is_no_likelihood_has_no_perplexity(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": [{"role": "user", "content": f"{i}?"}], "chosen": f"{i}!", "rejected": "No."} for i in range(4)]
    data = runs.data(tmp_path / "pairs", train=pairs, valid=pairs)
    assert runs.run(tmp_path / "a", request(tiny_llama, data, method="reward_model")) == Exit.FINISHED
    assert "val_loss" in evaluated(tmp_path / "a")[0] and "val_perplexity" not in evaluated(tmp_path / "a")[0]


def code(root: Path, config: dict[str, Any]) -> str:
    assert runs.run(root, config) == Exit.DATA
    return str(runs.last(root).fields["code"])


@pytest.mark.parametrize("row", [{"text": "Once upon a time."}, runs.chat("long " * 400, "a")])
def test_rows_that_ask_nothing_short_enough_are_named(tiny_llama: Path, tmp_path: Path, row: dict[str, Any]) -> None:
    data = runs.data(tmp_path / "data", train=runs.rows(2), valid=[row])
    assert code(tmp_path / "a", request(tiny_llama, data, eval_rules=["length"])) == "evaluation.no_prompts"


def test_a_rule_that_compares_needs_references(tiny_llama: Path, tmp_path: Path) -> None:
    data = method_data.data(tmp_path / "data", "kto", train=4, valid=4)
    config = request(tiny_llama, data, method="kto", eval_rules=["exact_answer"])
    assert code(tmp_path / "a", config) == "rule.no_reference"


def test_an_unknown_rule_is_named_before_anything_is_read(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    assert runs.run(tmp_path / "a", request(tiny_llama, data, eval_rules=["praise"])) == Exit.CONFIG
