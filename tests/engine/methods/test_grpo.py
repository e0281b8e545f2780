"""GRPO on a tiny model: a batch worked by hand, who is compared with whom, and who is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.engine.methods.test_gates import Ready
from training.engine.catalog.policy_methods import Grpo as Settings
from training.engine.generation.answering import Answer
from training.engine.learning.policies import OLD, REFERENCE, Round
from training.engine.learning.reading import Read
from training.engine.learning.rewards import Rewarded
from training.engine.methods.grpo import ADVANTAGE, Grpo
from training.engine.rows.asked import Asked
from training.engine.rows.batches import Rows
from training.engine.rows.layouts import Flat

ASKED = Asked([{"role": "user", "content": "?"}], None)


def round_of(rewards: list[float], ids: list[list[int]], ended: list[bool] | None = None) -> Round:
    """Answers ``ids`` to one prompt after the other, whose tokens have the log-probability −1 (reference: −2)."""
    ended = ended or [True] * len(ids)
    answers = [Answer(ASKED, [7, 8], own, "", end) for own, end in zip(ids, ended, strict=True)]
    ones = [-np.ones(len(own), dtype=np.float32) for own in ids]
    total = np.array(rewards, dtype=np.float32)
    return Round(
        answers, [a.example() for a in answers], Rewarded(total, {}), Read(ones, ones, []), [2 * x for x in ones]
    )


def examples(made: Round, **settings: Any) -> list[Any]:
    method = Grpo(Settings(num_generations=2, **settings))
    groups = made.rewarded.total.reshape(-1, 2)
    return method._examples(made, np.ptp(groups, axis=1) == 0)


def test_answers_to_one_prompt_are_compared_with_each_other() -> None:
    made = examples(round_of([1, 3, 5, 5], [[1], [2, 3], [4], [5]]), scale_rewards="none")
    assert [one.numbers[ADVANTAGE] for one in made] == [-1, 1, 0, 0]
    assert made[1].parts[0].ids == [7, 8, 2, 3]
    assert made[1].parts[0].trained == [False, False, True, True]
    scaled = examples(round_of([1, 3, 5, 5], [[1], [2, 3], [4], [5]]))
    assert [one.numbers[ADVANTAGE] for one in scaled] == pytest.approx([-(0.5**0.5), 0.5**0.5, 0, 0], rel=1e-3)


def test_a_cut_answer_teaches_nothing_if_so_asked() -> None:
    made = round_of([1, 3], [[1, 2], [3]], [False, True])
    assert [one.targets for one in examples(made)] == [2, 1]
    masked = examples(made, mask_truncated_completions=True)
    assert [one.targets for one in masked] == [0, 1]
    assert [len(one.arrays[OLD]) for one in masked] == [0, 1]
    assert masked[1].numbers[ADVANTAGE] > 0  # compared with the cut one all the same


def test_prompts_whose_answers_are_worth_the_same_are_left_out_if_so_asked() -> None:
    made = round_of([1, 3, 5, 5], [[1], [2], [3], [4]])
    assert [one.parts[0].ids[2] for one in examples(made, filter_groups=True)] == [1, 2]
    equal = round_of([5, 5, 5, 5], [[1], [2], [3], [4]])
    assert [one.numbers[ADVANTAGE] for one in examples(equal, filter_groups=True)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("loss_type", "expected", "units"),
    [("dapo", -1.2 * 2 - 1 + 2 * 0.8, 4), ("grpo", -(1.2 * 2 + 1) / 3 + 2 * 0.8, 2), ("dr_grpo", (-3.4 + 1.6) / 10, 2)],
)
def test_a_batch_by_hand(loss_type: Any, expected: float, units: int, tiny_llama: Path, tmp_path: Path) -> None:
    """Ratios 1.5, 1.5, 1 in an answer with A = 1; 0.5 in one with A = −2; ε = 0.2; k3 of a distance of 0."""
    ready = Ready(tmp_path, "grpo", tiny_llama, loss_type=loss_type, max_completion_length=10, beta=0.1)
    answers = [Answer(ASKED, [7, 8], [5, 60, 70], "", True), Answer(ASKED, [9], [80], "", True)]
    plain = [one.example() for one in answers]
    now = ready.method._read(plain, lambda: None).log_probs  # type: ignore[attr-defined]
    ratios = [np.array([1.5, 1.5, 1.0]), np.array([0.5])]
    rows = [
        one.noted({ADVANTAGE: a}, {OLD: (own - np.log(r)).astype(np.float32), REFERENCE: own})
        for one, own, r, a in zip(plain, now, ratios, (1.0, -2.0), strict=True)
    ]
    ready.rows = Rows(rows, 0, 0)
    terms, _ = ready.result(Flat(), [0, 1])
    assert terms["loss"] == pytest.approx(expected / units, rel=1e-4)
    clipped = {"token": 3.0, "example": 2 / 3 + 1}[ready.method.unit]
    assert terms["clip_fraction"] == pytest.approx(clipped / units, rel=1e-5)


def test_rewards_that_are_all_equal_move_nothing(tiny_llama: Path, tmp_path: Path) -> None:
    ready = Ready(tmp_path, "grpo", tiny_llama, rewards=["length at_most=9"], beta=0.0, max_completion_length=3)
    assert {one.numbers[ADVANTAGE] for one in ready.rows.rows} == {0.0}
    terms, gradients = ready.result(Flat(), [0, 1, 2])
    assert terms["loss"] == 0
    assert all(not mx.any(g).item() for g in gradients.values())


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
        {"loss_type": "grpo", "scale_rewards": "batch"},
        {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4, "loss_type": "grpo"},
        {"epsilon_high": 0.28, "mask_truncated_completions": True, "filter_groups": True, "beta": 0.0},
    ],
    ids=["dr_grpo", "grpo", "gspo", "dapo"],
)
def test_every_relative_learns_or_keeps_still(settings: dict[str, Any], tiny_llama: Path, tmp_path: Path) -> None:
    ready = Ready(tmp_path, "grpo", tiny_llama, **settings)
    terms, gradients = ready.result(Flat(), list(range(len(ready.rows.rows))))
    assert np.isfinite(list(terms.values())).all()
    moves = any(mx.any(g != 0).item() for g in gradients.values())
    assert all(mx.all(mx.isfinite(g)).item() for g in gradients.values())
    assert moves == any(one.targets for one in ready.rows.rows)
