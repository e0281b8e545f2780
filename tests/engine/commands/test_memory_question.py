"""The plan before the start: right about a real step, and with advice that helps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from tests.engine import method_data, runs
from tests.fakes import tiny
from training.engine.commands import memory_question
from training.engine.commands.memory_question import run
from training.engine.config.imports import MemoryConfig
from training.engine.config.training import TrainConfig, check
from training.engine.errors import ConfigError
from training.engine.machine import device, memory
from training.engine.machine.device import Device
from training.engine.machine.memory import Room
from training.engine.models import loading
from training.engine.planning import memory_facts
from training.engine.report import Silent

GPU = Device("cuda", "test", 1 << 34, "", 1, False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    long = [runs.chat(f"Tell me of {i}.", f"It is {i} " * 60) for i in range(12)]
    return runs.data(tmp_path_factory.mktemp("data"), train=[*runs.rows(6), *long])


def ask(model: Path, data: Path, measure: bool = False, **settings: Any) -> dict[str, Any]:
    asked = runs.request(model, data, **{"batch_size": 8, "max_seq_length": 512, **settings})
    return run(MemoryConfig(training=asked, measure=measure), Silent())


def sizes(answer: dict[str, Any]) -> dict[str, int]:
    return {line["name"]: line["bytes"] for line in answer["lines"]}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"grad_checkpoint": True},
        {"adapter": "full", "optimizer": "adamw_8bit"},
        {"adapter": "dora"},
        {"batch_tokens": 1024},
        {"grad_accumulation_steps": 2},
    ],
)
def test_it_is_right_about_a_real_step(settings: dict[str, Any], tiny_llama: Path, data: Path) -> None:
    answer = ask(tiny_llama, data, True, **settings)
    assert answer["measured"] > 5 << 20
    assert abs(answer["error"]) < 0.35, (answer["error"], sizes(answer))


@pytest.mark.parametrize(
    "method",
    [
        {"name": "dpo"},
        {"name": "distillation", "top_k": 8},
        {"name": "gkd", "max_completion_length": 8, "rollout_batch": 4},
    ],
    ids=lambda method: method["name"],
)
def test_a_real_step_knows_what_is_computed_beforehand(
    method: dict[str, Any], tiny_llama: Path, tmp_path: Path
) -> None:
    data = method_data.data(tmp_path / "data", method["name"])
    others = method_data.others(method["name"], tmp_path / "others")
    assert ask(tiny_llama, data, True, method=method, others=others)["measured"] > 1 << 20


@pytest.mark.parametrize(("top_k", "held"), [(0, True), (8, False)])
def test_a_teacher_counts_as_long_as_it_stays(top_k: int, held: bool, tiny_llama: Path, tmp_path: Path) -> None:
    data, method = method_data.data(tmp_path / "data", "distillation"), {"name": "distillation", "top_k": top_k}
    found = sizes(ask(tiny_llama, data, method=method, others={"teacher": {"model": str(tiny_llama)}}))
    assert found.get("others", 0) == (found["weights"] if held else 0)


def test_weights_are_counted_as_they_will_lie_in_memory(tiny_llama: Path, tiny_quantised: Path, data: Path) -> None:
    plain, packed = (sizes(ask(model, data))["weights"] for model in (tiny_llama, tiny_quantised))
    assert plain == packed  # a CPU computes in float32
    config = check(TrainConfig, runs.request(tiny_quantised, data))
    assert memory_facts.look(config, GPU)[0].weights < 0.3 * plain


def test_no_weight_is_read(tiny_llama: Path, data: Path) -> None:
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    memory_facts.look(check(TrainConfig, runs.request(tiny_llama, data)), GPU)
    assert mx.get_peak_memory() - before < 1 << 16


def test_the_optimizers_memory_is_that_of_the_row(tiny_llama: Path, data: Path) -> None:
    whole, packed, half = (
        sizes(ask(tiny_llama, data, adapter="full", optimizer=name))["optimizer"]
        for name in ("adamw", "adamw_8bit", "sgd")
    )
    assert packed < 0.4 * whole  # the tiny model's norms and smallest matrices stay in float32
    assert half == pytest.approx(whole / 2, rel=0.01)


def test_advice_needs_less_and_keeps_the_update(tiny_llama: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "limit", lambda machine: 1 << 20)
    answer = ask(tiny_llama, data)
    assert not answer["fits"]
    changes = [s["changes"] for s in answer["suggestions"]]
    assert changes[:2] == [{"grad_checkpoint": True}, {"batch_size": 4, "grad_accumulation_steps": 2}]
    assert all(s["saves"] > 0 and s["total"] < answer["total"] for s in answer["suggestions"])


def test_rows_are_as_long_as_their_tokens(tiny_llama: Path, data: Path) -> None:
    rows = memory_question.longest_rows(check(TrainConfig, runs.request(tiny_llama, data, max_seq_length=100)))
    assert [row.length for row in rows[:3]] == [100, 100, 100]


def test_padding_counts_where_rows_are_padded(tiny_llama: Path, data: Path) -> None:
    config = check(TrainConfig, runs.request(tiny_llama, data, batch_size=3))
    flat, padded, slots = (
        memory_facts.work_of_rows([40, 30, 10, 5], config, layout, 1) for layout in ("flat", "padded", "slots")
    )
    assert (flat.tokens, padded.tokens, slots.tokens) == (80, 120, 96)
    assert memory_facts.work_of_rows([40, 30, 10, 5], config, "flat", 3).tokens == 40


def test_what_is_left_bounds_a_cpu_and_free_memory_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "room", lambda: Room(10 << 30, 20 << 30))
    own = mx.get_active_memory()
    reserve = Room(10 << 30, 20 << 30).reserve
    assert device.limit(Device("cpu", "test", 20 << 30, "", 1, True)) == (10 << 30) - reserve + own
    assert device.limit(Device("metal", "test", 1 << 30, "", 1, False)) == 1 << 30


def test_opened_and_loaded_are_the_same_model(tiny_llama: Path) -> None:
    cpu = Device("cpu", "test", 1 << 30, "", 1, True)
    ids = mx.array([[5, 260, 17]])
    assert mx.array_equal(
        loading.open_unread(tiny_llama, "auto", cpu).model(ids), loading.load(tiny_llama, "auto", cpu).model(ids)
    )


def test_the_command_answers_on_stdout(tmp_path: Path, data: Path) -> None:
    asked = runs.request(tiny.make(tmp_path / "m"), data)
    (tmp_path / "q.json").write_text(json.dumps({"schema": 1, "training": asked}))
    command = [sys.executable, "-m", "training.engine", "memory", "--config", str(tmp_path / "q.json")]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert json.loads(done.stdout)["total"] > 0


def test_a_wrong_setting_is_named(tiny_llama: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        run(MemoryConfig(training=runs.request(tiny_llama, data, batch_size=0)), Silent())
