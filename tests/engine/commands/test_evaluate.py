"""Evaluations of a tiny model: real numbers, the same after a kill, and every refusal by its name."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from tests.engine import method_data, runs
from training.engine.commands import evaluate
from training.engine.config.evaluations import EvaluateConfig
from training.engine.config.training import check
from training.engine.errors import Exit
from training.engine.run.rundir import RunDir
from training.engine.run.session import Session

SHORT = {"max_tokens": 6, "max_seq_length": 256, "batch_size": 4}


def run(root: Path, config: dict[str, Any], stop_after: str = "") -> Exit:
    """One attempt; ``stop_after``: ends like a kill when this phase has been told of for the second time."""
    run_dir = RunDir(root)
    heard: list[str] = []

    def hear(event: Any) -> None:
        if event.event == "phase":
            heard.append(f"{event.fields['name']} {event.fields.get('detail')}")
            if stop_after and heard.count(stop_after) == 2:
                raise runs.Killed

    session = Session(run_dir, run_dir.attempt(run_dir.newest_attempt() + 1), hear)
    try:
        return session.run(lambda s: evaluate.run(check(EvaluateConfig, config), s))
    except runs.Killed:
        return Exit.BUG
    finally:
        assert session._lock is not None
        os.close(session._lock)


def request(model: Path, data: Path, **settings: Any) -> dict[str, Any]:
    return {"schema": 1, "model": {"model": str(model)}, "data": str(data), **SHORT, **settings}


def values(root: Path) -> dict[str, float]:
    last = runs.last(root)
    assert last.event == "finished", last.fields
    found: dict[str, float] = last.fields["result"]["values"]
    return found


def code(root: Path, config: dict[str, Any]) -> str:
    assert run(root, config) != Exit.FINISHED
    return str(runs.last(root).fields["code"])


def steady(found: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in found.items() if "second" not in k and "memory" not in k}


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.data(tmp_path_factory.mktemp("chats"), train=runs.rows(14), valid=runs.rows(20))


@pytest.fixture(scope="module")
def reward(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A reward model that was trained for two steps."""
    folder = tmp_path_factory.mktemp("reward")
    data = method_data.data(folder / "data", "reward_model")
    config = runs.request(tiny_llama, data, iters=2, method="reward_model", save_every=2)
    assert runs.run(folder / "run", config) == Exit.FINISHED
    return {"model": str(tiny_llama), "adapter": str(folder / "run" / "checkpoints" / "0000002")}


def test_loss_is_that_of_the_training(tiny_llama: Path, chats: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "e", request(tiny_llama, chats, rows=0)) == Exit.FINISHED
    config = runs.request(tiny_llama, chats, iters=1, steps_per_eval=1)
    assert runs.run(tmp_path / "t", config) == Exit.FINISHED
    before = next(e for e in runs.events(tmp_path / "t") if e.event == "evaluated")
    found = values(tmp_path / "e")
    assert found["loss"] == pytest.approx(before.fields["values"]["val_loss"], rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert found["peak_memory_gb"] > 0 and found["read_tokens_per_second"] > 0


def test_answers_are_scored_by_rules_and_shown(tiny_llama: Path, chats: Path, tmp_path: Path) -> None:
    rules = ["length at_most=6 weight=2", "regex pattern='^$'", {"name": "exact_answer"}]
    assert run(tmp_path / "e", request(tiny_llama, chats, rules=rules, rows=18, loss=False)) == Exit.FINISHED
    found = values(tmp_path / "e")
    assert found["length"] == 1 and found["exact_answer"] == 0
    assert found["rule_score"] == pytest.approx(2 * found["length"] + found["regex"] + found["exact_answer"])
    assert 0 < found["answer_tokens"] <= 6 and found["tokens_per_second"] > 0 and 0 <= found["cut_share"] <= 1
    assert "loss" not in found
    told = [e.fields for e in runs.events(tmp_path / "e") if e.event == "sample"]
    assert [one["index"] for one in told] == list(range(16))
    assert told[0]["prompt"] == "What is 0?" and told[0]["reference"].startswith("0 is")
    assert next(e for e in runs.events(tmp_path / "e") if e.event == "evaluated").fields["values"] == found


def test_a_killed_evaluation_goes_on_to_the_same_numbers(
    tiny_llama: Path, chats: Path, reward: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "GROUP", 4)
    other = {"model": str(tiny_llama)}
    config = request(tiny_llama, chats, rows=8, rules=["length"], temperature=1.0, reward_model=reward, baseline=other)
    assert run(tmp_path / "whole", config) == Exit.FINISHED
    for phase in ("evaluate loss", "answer model", "answer baseline", "score model"):
        assert run(tmp_path / "cut", config, phase) == Exit.BUG
    with open(tmp_path / "cut" / "evaluation.jsonl", "a") as file:
        file.write('["score model 4", [0.1, 0.')  # torn by the kill
    assert run(tmp_path / "cut", config) == Exit.FINISHED
    assert steady(values(tmp_path / "cut")) == steady(values(tmp_path / "whole"))


def test_another_request_does_not_go_on_with_old_answers(tiny_llama: Path, chats: Path, tmp_path: Path) -> None:
    for tokens in (6, 2):
        config = {**request(tiny_llama, chats, rows=4, loss=False), "max_tokens": tokens}
        assert run(tmp_path / "e", config) == Exit.FINISHED
    assert values(tmp_path / "e")["answer_tokens"] <= 2


def test_a_model_against_itself_wins_half(
    tiny_llama: Path, chats: Path, reward: dict[str, str], tmp_path: Path
) -> None:
    itself = {"model": str(tiny_llama)}
    config = request(tiny_llama, chats, rows=8, loss=False, reward_model=reward, baseline=itself)
    assert run(tmp_path / "e", config) == Exit.FINISHED
    found = values(tmp_path / "e")
    assert found["win_rate"] == found["win_rate_low"] == found["win_rate_high"] == 0.5
    assert found["reward"] == found["reward_baseline"] != 0


def test_a_reward_model_is_judged_by_pairs(tiny_llama: Path, reward: dict[str, str], tmp_path: Path) -> None:
    data = method_data.data(tmp_path / "data", "reward_model", valid=8)
    assert run(tmp_path / "e", request(tiny_llama, data, reward_model=reward)) == Exit.FINISHED
    found = values(tmp_path / "e")
    assert 0 <= found["reward_accuracy"] <= 1 and found["reward_margin"] != 0 and found["loss"] > 0


def test_of_judged_answers_the_good_ones_are_read(tiny_llama: Path, tmp_path: Path) -> None:
    data = method_data.data(tmp_path / "data", "kto", valid=8)
    assert run(tmp_path / "e", request(tiny_llama, data, rows=1)) == Exit.FINISHED
    kept = tmp_path / "good"
    good = [json.loads(line) for line in (data / "valid.jsonl").read_text().splitlines()]
    runs.data(kept, valid=[row for row in good if row["label"]])
    assert run(tmp_path / "f", request(tiny_llama, kept, rows=1)) == Exit.FINISHED
    assert values(tmp_path / "e")["loss_tokens"] == values(tmp_path / "f")["loss_tokens"]


def test_prompts_are_answered_and_have_no_loss(tiny_llama: Path, tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "What is 2?"}], "answer": "4"}
    data = runs.data(tmp_path / "data", valid=[row] * 3)
    assert run(tmp_path / "e", request(tiny_llama, data, rules=["exact_answer"])) == Exit.FINISHED
    assert "loss" not in values(tmp_path / "e") and values(tmp_path / "e")["exact_answer"] == 0


def test_what_cannot_be_measured_is_named(
    tiny_llama: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLXP_REWARD_MODULES", raising=False)
    texts = runs.data(tmp_path / "texts", valid=[{"text": "Once upon a time."}])
    bare = runs.data(tmp_path / "bare", valid=[{"prompt": [{"role": "user", "content": "Why?"}]}])
    itself = {"model": str(tiny_llama)}
    cases = {
        "evaluation.no_rows": request(tiny_llama, chats, split="test"),
        "evaluation.no_prompts": request(tiny_llama, texts, rules=["length"]),
        "evaluation.nothing": request(tiny_llama, bare, rows=0),
        "rule.no_reference": request(tiny_llama, bare, rules=["exact_answer"]),
        "rule.module_not_listed": request(tiny_llama, chats, rules=["python_function module=mine.py"]),
        "reward_model.no_head": request(tiny_llama, chats, rows=1, reward_model=itself),
        "evaluation.baseline_alone": request(tiny_llama, chats, baseline=itself),
    }
    assert {name: code(tmp_path / name, config) for name, config in cases.items()} == {name: name for name in cases}


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"rows": 0, "rules": ["length"]}, "evaluation.no_answers"),
        ({"rows": 0, "loss": False}, "evaluation.nothing"),
        ({"rules": ["praise"]}, "rule.unknown"),
        ({"top_p": 0}, "config.greater_than"),
    ],
)
def test_bad_settings_have_a_name(tmp_path: Path, wrong: dict[str, Any], name: str) -> None:
    assert code(tmp_path / "e", request(tmp_path, tmp_path, **wrong)) == name
