"""Rewards of answers: rules, a reward model, both; and prompts that cannot be judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engine import method_data, runs
from tests.engine.methods.test_gates import Ready
from training.engine.catalog.policy_methods import Grpo
from training.engine.errors import DataError, Exit
from training.engine.generation.answering import Answer
from training.engine.learning.rewards import Rewards
from training.engine.report import Silent
from training.engine.rows.asked import Asked
from training.engine.rows.batches import Rows
from training.engine.rows.examples import Example
from training.engine.rows.masks import Encoded
from training.engine.scores.rule_scores import Rules

ASKED = Asked([{"role": "user", "content": "What is 2 + 2?"}], "4")


def answer(text: str, ids: int = 3) -> Answer:
    return Answer(ASKED, [1], list(range(ids)), text, True)


def rewards(*rules: str) -> Rewards:
    return Rewards(Rules.of(Grpo(rewards=list(rules)).rewards), None, 0.0, 2, Silent())


def test_the_reward_is_the_weighted_sum_of_the_rules() -> None:
    given = rewards("exact_answer weight=2", "length at_most=2 weight=-1").give(
        [answer("4"), answer("5", 9)], lambda: None
    )
    assert given.total.tolist() == [2 - 1, 0]
    assert given.means() == {"reward_exact_answer": 0.5, "reward_length": 0.5}


def test_an_empty_answer_is_worth_what_the_rules_say() -> None:
    assert rewards("exact_answer", "regex pattern=x").give([answer("", 1)], lambda: None).total.tolist() == [0]


def test_a_prompt_without_an_answer_to_compare_with_is_named() -> None:
    prompt = Example((Encoded([1], [False], 0),), row={"prompt": ASKED.prompt, "answer": "4"})
    rows = Rows([prompt, replace(prompt, row={"prompt": ASKED.prompt})], 0, 0)
    rewards("regex pattern=x").refuse_unanswered({"train": rows})
    with pytest.raises(DataError) as refused:
        rewards("exact_answer").refuse_unanswered({"train": rows})
    assert refused.value.code == "rule.no_reference"
    assert refused.value.message.startswith("Prompt 2 of train.jsonl")


def test_a_reward_model_and_a_rule_add_up(tiny_llama: Path, tmp_path: Path) -> None:
    both: dict[str, Any] = {"rewards": ["regex pattern=Paris"], "reward_model_weight": 0.5}
    given = Ready(tmp_path, "ppo", tiny_llama, **both).method._rewards  # type: ignore[attr-defined]
    texts = ["Paris.", "Rome, or so.", "Paris.", ""]
    made = given.give([answer(text) for text in texts], lambda: None)
    scores = made.parts["reward_model"]
    assert made.total == pytest.approx(0.5 * scores + [1, 0, 1, 0])
    assert scores[0] == pytest.approx(scores[2], rel=1e-5)
    assert len({round(float(score), 4) for score in scores}) == 3


def test_a_reward_model_without_a_head_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    data = method_data.data(tmp_path / "data", "ppo")
    others = {"reward_model": {"model": str(tiny_llama)}}
    method = method_data.quick("ppo", reward_model_weight=1)
    assert runs.run(tmp_path / "run", runs.request(tiny_llama, data, method=method, others=others)) == Exit.MODEL
    assert runs.last(tmp_path / "run").fields["code"] == "reward_model.no_head"
