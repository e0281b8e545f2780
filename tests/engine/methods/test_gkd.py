"""On-policy distillation: whose answers are trained on, and that the student comes nearer to its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine import method_data, runs
from training.engine.errors import Exit
from training.engine.learning.online import Collected
from training.engine.methods.gkd import Gkd

QUICK = {"name": "gkd", "rollout_batch": 4, "max_completion_length": 8}


@pytest.fixture
def asked(tiny_llama: Path, tmp_path: Path) -> dict[str, Any]:
    data = method_data.data(tmp_path / "data", "sft", train=8, valid=3)
    others = method_data.others("gkd", tmp_path / "others")
    return runs.request(tiny_llama, data, others=others, iters=8, batch_size=4, learning_rate=1e-2)


def run(root: Path, asked: dict[str, Any], **method: Any) -> dict[str, list[float]]:
    """Curves by name."""
    assert runs.run(root, {**asked, "method": {**QUICK, **method}}) == Exit.FINISHED
    found: dict[str, list[float]] = {}
    for event in runs.events(root):
        if event.event in ("metrics", "evaluated"):
            for name, value in event.fields["values"].items():
                found.setdefault(name, []).append(value)
    return found


def test_own_answers_bring_the_student_nearer(asked: dict[str, Any], tmp_path: Path) -> None:
    found = run(tmp_path / "run", {**asked, "iters": 30}, lmbda=1, divergence="jsd")
    assert set(found["own_answers"]) == {1.0}
    assert sum(found["train_loss"][-3:]) < 0.8 * sum(found["train_loss"][:3])
    assert found["val_divergence"][-1] < found["val_divergence"][0]
    assert 0 < found["generation_share"][-1] < 1


def test_without_own_answers_it_is_distillation_on_the_data(asked: dict[str, Any], tmp_path: Path) -> None:
    """Both see all eight rows in each epoch of two updates, though not in the same order."""
    own = {**asked, "iters": 2, "learning_rate": 1e-9}
    found = run(tmp_path / "one", own, lmbda=0)
    plain = {"name": "distillation", "top_k": 0}
    assert runs.run(tmp_path / "two", {**own, "method": plain}) == Exit.FINISHED
    assert set(found["own_answers"]) == {0.0}
    weights = [runs.points(tmp_path / name, "trained_tokens") for name in ("one", "two")]
    losses = [runs.points(tmp_path / name) for name in ("one", "two")]
    sums = [loss[1] * count[1] + loss[2] * (count[2] - count[1]) for loss, count in zip(losses, weights, strict=True)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-4)


def test_the_share_of_own_answers_is_lmbda(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [i for i in range(400) if _own(i, 0.3, monkeypatch)]
    assert 0.2 < len(made) / 400 < 0.4


def _own(index: int, lmbda: float, monkeypatch: pytest.MonkeyPatch) -> bool:
    from training.engine.catalog.distillation_methods import Gkd as Settings

    method = Gkd(Settings(lmbda=lmbda))
    example = method_data.row("chat", 1)
    monkeypatch.setattr(method, "_answered", lambda *_: ([_Trained()], {}))
    monkeypatch.setattr(method, "_given", lambda _: _Trained())
    made: Collected = method.collect([example], (42, 0, index), lambda: None)  # type: ignore[list-item]
    return bool(made.told["own_answers"])


class _Trained:
    targets = 3


def test_prompts_without_answers_need_own_ones(asked: dict[str, Any], tmp_path: Path) -> None:
    bare = [{"prompt": [{"role": "user", "content": f"What is {i}?"}]} for i in range(4)]
    asked = {**asked, "data": str(runs.data(tmp_path / "bare", train=bare)), "iters": 1}
    assert runs.run(tmp_path / "half", {**asked, "method": {**QUICK, "lmbda": 0.5}}) == Exit.DATA
    assert runs.last(tmp_path / "half").fields["code"] == "gkd.no_answers"
    assert run(tmp_path / "all", asked, lmbda=1)["own_answers"] == [1.0]


def test_a_run_goes_on_in_the_midst_of_a_rollout(asked: dict[str, Any], tmp_path: Path) -> None:
    asked = {**asked, "batch_size": 2, "iters": 5, "method": {**QUICK, "lmbda": 0.7}}
    assert runs.run(tmp_path / "a", asked) == Exit.FINISHED
    assert runs.run(tmp_path / "b", asked, halt=(3, 0)) == Exit.STOPPED
    assert runs.run(tmp_path / "b", asked) == Exit.FINISHED
    runs.assert_same(tmp_path / "a", tmp_path / "b", 5)
