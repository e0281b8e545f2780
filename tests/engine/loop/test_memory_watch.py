"""A training that runs short of memory first lets go of what it can, then saves and ends with advice."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from tests.engine import runs
from training.engine.config.training import TrainConfig, check
from training.engine.errors import Exit, MemoryShortage
from training.engine.loop import memory_watch
from training.engine.loop.memory_watch import MemoryWatch, Reading, advice
from training.engine.machine import memory
from training.engine.machine.device import Device
from training.engine.machine.memory import Room
from training.engine.planning.memory_plan import PROGRAM
from training.engine.run.rundir import RunDir
from training.engine.run.session import Session

GIB = 1 << 30
CPU = Device("cpu", "test", 16 * GIB, "", 1, True)
GPU = Device("cuda", "test", 16 * GIB, "", 1, False)
PLENTY, SHORT = Room(8 * GIB, 16 * GIB), Room(GIB // 4, 16 * GIB)


def config(**settings: Any) -> TrainConfig:
    return check(TrainConfig, {"model": "m", "data": "d", **settings})


class Machine:
    """Readings one after the other, the last one for ever; a clock that is set by hand."""

    def __init__(self, session: Session, device: Device, *readings: Reading) -> None:
        self.readings, self.now, self.looks = list(readings), 0.0, 0
        self.watch = MemoryWatch(config(), session, device, self.read, lambda: self.now)

    def read(self) -> Reading:
        self.looks += 1
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(RunDir(tmp_path), RunDir(tmp_path).attempt(1))


def test_it_looks_once_a_second(session: Session) -> None:
    machine = Machine(session, CPU, (PLENTY, 0))
    for machine.now in (0.0, 0.4, 0.9, 1.0, 1.1, 2.5):
        machine.watch.look()
    assert machine.looks == 3
    assert session.stopping is None


def test_what_can_be_let_go_is_enough(session: Session) -> None:
    machine = Machine(session, CPU, (SHORT, 0), (PLENTY, 0))
    machine.watch.look()
    machine.watch.refuse()
    assert session.stopping is None


@pytest.mark.parametrize(
    ("device", "reading", "words"),
    [(CPU, (SHORT, 0), "Only 0.25 of 16.0 GiB"), (GPU, (PLENTY, int(15.8 * GIB)), "holds 15.8 of the device's 16.0")],
)
def test_a_lasting_shortage_asks_for_the_end(session: Session, device: Device, reading: Reading, words: str) -> None:
    machine = Machine(session, device, reading)
    machine.watch.look()
    assert session.stopping is not None
    with pytest.raises(MemoryShortage, match=words):
        machine.watch.refuse()


def test_a_cpu_may_hold_what_it_likes_while_there_is_room(session: Session) -> None:
    machine = Machine(session, CPU, (PLENTY, 100 * GIB))
    machine.watch.look()
    assert session.stopping is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "batch_size 2 and grad_accumulation_steps 2"),
        ({"batch_size": 5}, "batch_size 2 and grad_accumulation_steps 2"),
        ({"batch_tokens": 4096, "grad_accumulation_steps": 3}, "batch_tokens 2048 and grad_accumulation_steps 6"),
        ({"batch_size": 1}, "max_seq_length 512"),
    ],
)
def test_advice_keeps_the_update_where_it_can(settings: dict[str, Any], expected: str) -> None:
    assert expected in advice(config(**settings))
    assert "checkpointing" in advice(config(**settings))
    assert "checkpointing" not in advice(config(**settings, grad_checkpoint=True))


def test_a_training_saves_and_goes_on_later(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = runs.data(tmp_path / "data")
    asked = runs.request(tiny_llama, data, grad_accumulation_steps=2)
    assert runs.run(tmp_path / "a", asked) == Exit.FINISHED
    monkeypatch.setattr(memory_watch, "EVERY", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(memory, "room", lambda: SHORT if runs.points(tmp_path / "b").get(2) else PLENTY)
        assert runs.run(tmp_path / "b", asked) == Exit.MEMORY
    word = runs.last(tmp_path / "b").fields
    assert (word["code"], word["family"]) == ("memory.short", "memory")
    assert "batch_size 1 and grad_accumulation_steps 4" in word["hint"]
    assert (tmp_path / "b" / "checkpoints" / "0000002").is_dir()
    assert runs.run(tmp_path / "b", asked) == Exit.FINISHED
    runs.assert_same(tmp_path / "a", tmp_path / "b", 6)


def test_the_journal_holds_plan_and_measurement(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_watch, "WORTH", 1 << 20)  # the tiny model's step is small
    data = runs.data(tmp_path / "data", train=[runs.chat(f"Of {i}?", f"It is {i} " * 60) for i in range(12)])
    asked = runs.request(tiny_llama, data, iters=2, batch_size=4, kernel_cache=str(tmp_path / "kernels"))
    gc.collect()
    others = mx.get_active_memory()  # what earlier tests of this process still hold
    for name in ("a", "b"):
        assert runs.run(tmp_path / name, asked) == Exit.FINISHED
    plan, first = (e.fields for e in runs.events(tmp_path / "a") if e.event == "memory")
    assert plan["total"] == pytest.approx(first["planned"] - others + PROGRAM, rel=0.1)
    assert abs(first["error"]) < 0.5
    again = next(e.fields for e in runs.events(tmp_path / "b") if e.event == "memory")
    assert again["calibration"]["runs"] == 1
    second = [e.fields for e in runs.events(tmp_path / "b") if e.event == "memory"][1]
    assert abs(second["error"]) < 0.15  # the same rows; how far MLX runs ahead varies
    assert runs.points(tmp_path / "a", "peak_memory_gb")[2] >= first["measured"] / GIB


def test_a_look_is_cheap() -> None:
    best = 1.0
    for _ in range(20):
        since = time.perf_counter()
        for _ in range(50):
            memory_watch.read()
        best = min(best, (time.perf_counter() - since) / 50)
    assert best < 200e-6  # 50 µs on an idle machine, at most once a second
