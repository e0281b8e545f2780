"""The loop: accumulation, evaluation, stopping early, and what must not change the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from tests.engine import runs
from tests.engine.examples import one
from training.engine.catalog.supervised_methods import Sft as Settings
from training.engine.config.training import TrainConfig, check
from training.engine.errors import Exit
from training.engine.loop.run_lengths import Plan
from training.engine.machine.device import Device
from training.engine.methods.sft import Sft
from training.engine.models import loading
from training.engine.rows import segments
from training.engine.rows.layouts import Batch, Flat
from training.engine.run.journal import Event

LAYOUT = Flat()
CPU = Device("cpu", "test", 1 << 30, "", 1, True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.data(tmp_path_factory.mktemp("data"), train=runs.rows(8), valid=runs.rows(3), test=runs.rows(2))


def plan(micro_per_epoch: int, **settings: Any) -> tuple[int, int, int]:
    made = Plan.of(check(TrainConfig, {"model": "m", "data": "d", **settings}), micro_per_epoch)
    return made.steps, made.eval_every, made.save_every


def test_a_plan_counts_updates() -> None:
    assert plan(100) == (300, 30, 30)
    assert plan(100, epochs=0.5, grad_accumulation_steps=4) == (12, 2, 2)
    assert plan(1, epochs=0.01) == (1, 1, 1)
    assert plan(100, iters=7, steps_per_eval=3, save_every=5) == (7, 3, 5)


ROWS = [one([i + 3 * j for j in range(n)], [False] + [True] * (n - 1), 0) for i, n in enumerate((3, 40, 7, 21))]


def loss(model: nn.Module, batch: Batch) -> tuple[float, dict[str, mx.array]]:
    method = Sft(Settings())
    method.prepare(model)
    with segments.cut(batch.cuts):
        value, gradients = nn.value_and_grad(model, lambda b: method.loss(model, b)["loss"])(batch)
    return float(value.item()), dict(tree_flatten(gradients))


def assert_close(one: tuple[float, dict[str, mx.array]], other: tuple[float, dict[str, mx.array]]) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    scale = max(mx.abs(g).max().item() for g in one[1].values())
    assert all(mx.abs(one[1][k] - other[1][k]).max().item() <= 4e-6 * scale for k in one[1])


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> nn.Module:
    loaded = loading.load(tiny_llama, "auto", CPU).model
    segments.install(loaded)
    return loaded


def test_the_order_of_rows_changes_nothing(model: nn.Module) -> None:
    assert_close(loss(model, LAYOUT.lay(ROWS)), loss(model, LAYOUT.lay(ROWS[::-1])))


def test_a_fully_masked_row_adds_nothing(model: nn.Module) -> None:
    silent = one([9] * 12, [False] * 12, 0)
    assert_close(loss(model, LAYOUT.lay(ROWS)), loss(model, LAYOUT.lay([*ROWS, silent])))


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_two_times_two_rows_are_four(adapter: str, tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.data(tmp_path / "data", train=[runs.rows(8)[i] for i in (0, 4, 5, 7)])
    config = runs.request(tiny_llama, data, adapter=adapter, iters=3, optimizer="sgd", learning_rate=0.1)
    assert runs.run(tmp_path / "4", config | {"batch_size": 4}) == Exit.FINISHED
    assert runs.run(tmp_path / "2x2", config | {"grad_accumulation_steps": 2}) == Exit.FINISHED
    one, other = runs.arrays(tmp_path / "4", 3), runs.arrays(tmp_path / "2x2", 3)
    assert max(mx.abs(one[k] - other[k]).max().item() for k in one) <= 1e-6
    assert runs.points(tmp_path / "4") == pytest.approx(runs.points(tmp_path / "2x2"), rel=1e-6)


def test_four_rows_are_learnt_by_heart(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.data(
        tmp_path / "data", train=[runs.chat(f"Say {w}.", f"{w} it is.") for w in ("one", "two", "ten", "six")]
    )
    config = runs.request(tiny_llama, data, iters=60, batch_size=4, learning_rate=2e-2, adapter={"rank": 8})
    assert runs.run(tmp_path / "run", config) == Exit.FINISHED
    points = runs.points(tmp_path / "run")
    assert points[1] > 4
    assert points[60] < 0.05


def test_16_bit_weights_stay_16_bit(tiny_llama: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, runs.data(tmp_path / "data"), adapter="full", dtype="bfloat16", iters=2)
    assert runs.run(tmp_path / "run", config | {"grad_accumulation_steps": 2}) == Exit.FINISHED
    assert {w.dtype for w in runs.arrays(tmp_path / "run", 2).values()} == {mx.bfloat16}


def evaluations(root: Path) -> dict[int, set[str]]:
    return {e.fields["step"]: set(e.fields["values"]) for e in runs.events(root) if e.event == "evaluated"}


def test_evaluates_before_between_and_after(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, data, iters=5, steps_per_eval=2, sample_tokens=3, grad_checkpoint=True)
    assert runs.run(tmp_path / "run", config) == Exit.FINISHED
    valid = {"val_loss", "val_perplexity"}
    both = {*valid, "test_loss"}
    assert evaluations(tmp_path / "run") == {0: both, 2: valid, 4: valid, 5: both}
    samples = [(e.fields["step"], e.fields["index"]) for e in runs.events(tmp_path / "run") if e.event == "sample"]
    assert samples == [(step, i) for step in (0, 2, 4, 5) for i in range(2)]
    result = runs.last(tmp_path / "run").fields["result"]
    assert result["first_val_loss"] > result["best_val_loss"] > 0
    assert result["first_test_loss"] != result["test_loss"]


def test_no_validation_batches_mean_no_validation(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    assert runs.run(tmp_path / "run", runs.request(tiny_llama, data, iters=1, val_batches=0)) == Exit.FINISHED
    assert evaluations(tmp_path / "run") == {0: {"test_loss"}, 1: {"test_loss"}}
    assert runs.last(tmp_path / "run").fields["result"]["val_loss"] is None


def test_patience_ends_it_early_with_the_best_and_the_test(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    # Lion at a high rate moves away from the start at once, so the validation loss rises.
    config = runs.request(tiny_llama, data, iters=30, steps_per_eval=1, patience=2, optimizer="lion")
    assert runs.run(tmp_path / "run", config | {"learning_rate": 0.3, "lr_schedule": "constant"}) == Exit.FINISHED
    result = runs.last(tmp_path / "run").fields["result"]
    assert result["step"] == result["best_step"] + 2 < 30
    assert "test_loss" in evaluations(tmp_path / "run")[result["step"]]
    assert any("Stops early" in e.fields.get("message", "") for e in runs.events(tmp_path / "run"))


def test_a_stop_in_an_evaluation_is_evaluated_by_the_next(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, data, iters=4, steps_per_eval=2, patience=9)
    assert runs.run(tmp_path / "a", config) == Exit.FINISHED
    # After the point of step 2 the first look is that of the evaluation.
    assert runs.run(tmp_path / "b", config, halt=(2, 1)) == Exit.STOPPED
    assert 2 not in evaluations(tmp_path / "b")
    assert runs.run(tmp_path / "b", config) == Exit.FINISHED
    assert list(evaluations(tmp_path / "b")) == [2, 4]
    runs.assert_same(tmp_path / "a", tmp_path / "b", 4)


def test_a_rate_far_too_high_ends_as_diverged(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, data, iters=60, adapter={"scale": 1000}, dtype="float16", max_grad_norm=0)
    config |= {"optimizer": "sgd", "lr_schedule": "constant", "learning_rate": 1.0}
    assert runs.run(tmp_path / "run", config) == Exit.DIVERGED
    word = runs.last(tmp_path / "run").fields
    assert (word["family"], word["trace"]) == ("diverged", "")
    assert word["code"].startswith("diverged.")
    assert "learning rate" in word["hint"]


def test_the_curve_has_every_name(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    config = runs.request(tiny_llama, data, iters=4, steps_per_report=3)
    assert runs.run(tmp_path / "run", config, echo=seen.append) == Exit.FINISHED
    points = [e.fields for e in seen if e.event == "metrics"]
    assert [(p["step"], p["of"]) for p in points] == [(3, 4), (4, 4)]  # the last step is never left out
    names = {"train_loss", "learning_rate", "grad_norm", "tokens_per_second", "step_seconds", "trained_tokens"}
    assert points[0]["values"].keys() == names | {"epoch", "memory_gb", "peak_memory_gb"}
    assert points[1]["values"]["epoch"] == 1.0
