from __future__ import annotations

import pytest

from training import memory


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A control group's counter of our own, in the form of version 2."""
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 3\noom_kill 1\noom_group_kill 0\n")
    monkeypatch.setattr(memory, "_counter", lambda: counter)
    monkeypatch.setattr(memory, "is_low", lambda: False)
    return counter


def test_the_count_is_read(cgroup):
    assert memory.kills() == 1


def test_a_new_kill_is_a_death_by_memory(cgroup):
    watch = memory.Watch()
    assert not watch.killed()
    cgroup.write_text("oom_kill 2\n")
    assert watch.killed()


def test_so_is_a_death_right_after_memory_was_short(cgroup, monkeypatch):
    watch = memory.Watch()
    monkeypatch.setattr(memory, "is_low", lambda: True)
    watch.sample()
    assert watch.killed()
    monkeypatch.setattr(memory, "is_low", lambda: False)
    watch.sample()
    assert not watch.killed()


def test_where_nobody_counts_nothing_is_known(monkeypatch):
    monkeypatch.setattr(memory, "_counter", lambda: None)
    assert memory.kills() is None


def test_this_machines_counter_can_be_read():
    found = memory.kills()
    assert found is None or found >= 0
