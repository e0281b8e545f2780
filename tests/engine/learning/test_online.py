"""Rollouts in the loop: killed anywhere and gone on bit for bit; what is told of them; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine import method_data, runs
from training.engine.config.training import TrainSettings, check
from training.engine.errors import ConfigError, Exit, StopAsked
from training.engine.loop.checkpoint import newest
from training.engine.run.journal import Event

NAMES = ("grpo", "ppo")
#: What makes each of them remember something beside the model, and see a rollout twice.
MORE = {"grpo": {"num_iterations": 2}, "ppo": {"num_ppo_epochs": 2, "adaptive_kl": True, "kl_horizon": 40.0}}
STOP = StopAsked("signal SIGTERM", Exit.STOPPED)
#: (step, checks after it): in an evaluation, the first rollout's answers, a step, the second one's answers, its steps.
PLACES = [(0, 2), (0, 22), (1, 1), (2, 6), (3, 0)]


@pytest.fixture(scope="module", params=NAMES)
def asked(request: pytest.FixtureRequest, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A request for six steps: a rollout of 4 prompts is gone over twice."""
    method = method_data.quick(request.param, rollout_batch=4, max_completion_length=6, **MORE[request.param])
    data = method_data.data(tmp_path_factory.mktemp("data"), request.param, train=10, valid=2)
    size = {"batch_size": {"grpo": 6, "ppo": 2}[request.param], "grad_accumulation_steps": 2}
    return runs.request(tiny_llama, data, method=method, learning_rate=1e-2, steps_per_eval=4, **size)


@pytest.fixture(scope="module")
def whole(asked: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a stop."""
    root = tmp_path_factory.mktemp("runs") / "whole"
    assert runs.run(root, asked) == Exit.FINISHED
    return root


def assert_same(one: Path, other: Path) -> None:
    runs.assert_same(one, other, 6)
    for name in ("reward", "kl", "entropy", "train_clip_fraction", "kl_coef"):
        assert runs.points(one, name) == runs.points(other, name)


def test_a_stop_at_any_place_changes_nothing(asked: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    for n, place in enumerate(PLACES):
        root = tmp_path / f"part {n}"
        assert runs.run(root, asked, halt=place) == Exit.STOPPED
        assert runs.run(root, asked) == Exit.FINISHED
        assert_same(whole, root)


def test_a_kill_at_any_place_changes_nothing(asked: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    for n, place in enumerate(PLACES[2:]):
        root = tmp_path / f"part {n}"
        assert runs.run(root, asked | {"save_every": 1}, halt=place, how=runs.Killed()) == Exit.BUG
        assert runs.run(root, asked | {"save_every": 1}) == Exit.FINISHED
        assert_same(whole, root)


def test_a_stop_between_the_answers_and_the_first_of_them_keeps_them(
    asked: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    phases: list[str] = []

    def look(event: Event) -> None:
        if event.event == "phase":
            phases.append(event.fields["name"])
            if phases.count("score") == 3 and phases[-1] == "train":  # of an evaluation, of two rollouts
                phases.clear()
                raise STOP

    assert runs.run(tmp_path / "part", asked, echo=look) == Exit.STOPPED
    path = newest(tmp_path / "part" / "checkpoints", print)
    assert path is not None
    assert json.loads((path / "trainer.json").read_text())["feed"]["inner"] == 0
    assert runs.run(tmp_path / "part", asked) == Exit.FINISHED
    assert_same(whole, tmp_path / "part")


def test_what_is_told_of_a_rollout(asked: dict[str, Any], whole: Path) -> None:
    told = runs.events(whole)
    values = [e.fields["values"] for e in told if e.event == "metrics" and "reward" in e.fields["values"]]
    assert len(values) > 1
    assert values[0].keys() >= {"reward", "reward_std", "entropy", "answer_tokens", "finished_share", "kl"}
    assert values[0]["kl"] == 0  # adapters do nothing yet
    assert {"reward_regex", "reward_regex_2", "reward_regex_3"} <= values[0].keys()
    weighed = values[0]["reward_regex"] + 0.5 * values[0]["reward_regex_2"] + 0.2 * values[0]["reward_regex_3"]
    assert values[0]["reward"] == pytest.approx(weighed, rel=1e-5)
    shares = [values[1][f"{name}_share"] for name in ("generation", "scoring", "learning")]
    assert sum(shares) == pytest.approx(1) and min(shares) > 0


def test_the_best_checkpoint_is_the_one_with_the_highest_reward(asked: dict[str, Any], whole: Path) -> None:
    result = runs.last(whole).fields["result"]
    evaluated = [e.fields["values"]["val_reward"] for e in runs.events(whole) if e.event == "evaluated"]
    assert result["goal"] == "reward"
    assert result["best_val_reward"] == max(evaluated)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"batch_tokens": 512}, "online.batch_tokens"),
        ({"cache_activations": True}, "online.cache_activations"),
        ({"ranks": 2}, "ranks.online"),
    ],
)
def test_what_does_not_go_with_answers_of_its_own_is_refused(name: str, settings: dict[str, Any], code: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(TrainSettings, {"method": name, **settings})
    assert [problem.code for problem in refused.value.problems] == [code]


@pytest.mark.parametrize("name", NAMES)
def test_without_any_reward_there_is_nothing_to_learn(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(TrainSettings, {"method": {"name": name, "rewards": [], "reward_model_weight": 0}})
    assert [problem.code for problem in refused.value.problems] == ["reward.missing"]


def test_with_all_weights_trained_the_reference_is_the_model_before(tiny_llama: Path, tmp_path: Path) -> None:
    method = method_data.quick("grpo", rollout_batch=2, max_completion_length=5, beta=0.1)
    data = method_data.data(tmp_path / "data", "grpo", train=4)
    size = {"batch_size": 6, "adapter": "full", "learning_rate": 1e-2, "iters": 4}
    config = runs.request(tiny_llama, data, method=method, **size)
    assert runs.run(tmp_path / "whole", config) == Exit.FINISHED
    assert runs.run(tmp_path / "part", config, halt=(2, 1)) == Exit.STOPPED
    assert runs.run(tmp_path / "part", config) == Exit.FINISHED
    runs.assert_same(tmp_path / "whole", tmp_path / "part", 4)
    kl = list(runs.points(tmp_path / "part", "kl").values())
    assert kl == list(runs.points(tmp_path / "whole", "kl").values())
    assert kl[0] == 0 and kl[-1] > 0.01
    said = [e.fields["message"] for e in runs.events(tmp_path / "part") if e.event == "log"]
    assert any("stay in memory as the reference" in line for line in said)
