"""Loss scaling: the rule of the scale, small gradients that survive, updates left out, the same after a kill."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from tests.engine import runs
from training.engine.errors import Diverged, Exit
from training.engine.optimizers import loss_scale
from training.engine.optimizers.loss_scale import LossScale


def test_the_scale_halves_at_an_overflow_and_doubles_after_many_good_updates() -> None:
    scale = LossScale(8.0)
    scale.saw(finite=False)
    assert (scale.value, scale.good) == (4.0, 0)
    for _ in range(loss_scale.GROW_AFTER):
        scale.saw(finite=True)
    assert (scale.value, scale.good) == (8.0, 0)


def test_a_scale_below_one_helps_nobody() -> None:
    scale = LossScale(1.0)
    with pytest.raises(Diverged, match="beyond float16"):
        scale.saw(finite=False)


@pytest.fixture
def config(tiny_llama: Path, tmp_path: Path) -> dict[str, object]:
    data = runs.data(tmp_path / "data")
    return runs.request(tiny_llama, data, dtype="float16", iters=8, learning_rate=1e-3, adapter="lora")


def test_float16_learns_as_float32_does(config: dict[str, object], tmp_path: Path) -> None:
    assert runs.run(tmp_path / "half", config) == Exit.FINISHED
    assert runs.run(tmp_path / "whole", config | {"dtype": "float32"}) == Exit.FINISHED
    half, whole = runs.points(tmp_path / "half"), runs.points(tmp_path / "whole")
    assert [half[i] for i in half] == pytest.approx([whole[i] for i in whole], rel=5e-3)


def test_an_overflow_is_left_out_told_and_resumed(
    config: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_scale.LossScale, "__init__", _high)
    assert runs.run(tmp_path / "a", config) == Exit.FINISHED
    told = [e.fields["message"] for e in runs.events(tmp_path / "a") if e.event == "log"]
    assert any("beyond float16" in line for line in told)
    assert runs.run(tmp_path / "b", config, halt=(3, 0)) == Exit.STOPPED
    assert runs.run(tmp_path / "b", config) == Exit.FINISHED
    runs.assert_same(tmp_path / "a", tmp_path / "b", 8)
    assert mx.any(runs.arrays(tmp_path / "a", 8)["model.layers.0.self_attn.q_proj.lora_b"] != 0).item()


def _high(self: LossScale, value: float = 2.0**18, good: int = 0) -> None:
    self.value, self.good = value, good
