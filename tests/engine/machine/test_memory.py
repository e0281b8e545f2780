"""What is left: of the machine as psutil sees it, of a container as its files say."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from training.engine.machine import memory
from training.engine.machine.memory import Room

GIB = 1 << 30


def test_the_machine_is_psutils() -> None:
    made, theirs = memory._machine(), psutil.virtual_memory()
    assert made.total == theirs.total
    assert made.available == pytest.approx(theirs.available, rel=0.1)


def test_without_a_table_of_the_kernel_psutil_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert memory._machine().total == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("room", "short"),
    [
        (Room(500 << 20, 8 * GIB), True),
        (Room(600 << 20, 8 * GIB), False),
        (Room(2 * GIB, 100 * GIB), True),
        (Room(4 * GIB, 100 * GIB), False),
        (Room(200 << 20, GIB), False),  # a small container is not short all its life
    ],
)
def test_short_is_a_share_and_a_least(room: Room, short: bool) -> None:
    assert room.is_short == short


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("max", GIB), ("current", 700 << 20), ("stat", f"anon 1\ninactive_file {100 << 20}\n")):
        (tmp_path / f"memory.{name}").write_text(str(text))
    files = (tmp_path / "memory.max", tmp_path / "memory.current")
    monkeypatch.setattr(memory, "_container", lambda total: files)
    assert memory.room() == Room(min(memory._machine().available, GIB - (600 << 20)), GIB)


def test_a_container_without_a_limit_is_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1\n")
    files = (tmp_path / "memory.max", tmp_path / "memory.current")
    monkeypatch.setattr(memory, "_container", lambda total: files)
    assert memory.room().total == psutil.virtual_memory().total
