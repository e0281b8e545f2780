"""The launcher with children of our own; with the real ones it is driven in ``tests/chaos``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlxplatform import launcher
from mlxplatform.launcher import Child, Launcher

ROOT = Path(__file__).resolve().parents[2]
SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]
ENDS = [sys.executable, "-c", "raise SystemExit(3)"]


def child(arguments):
    return Child("web", arguments, ())


def test_deaths_are_answered_later_and_later():
    mortal = child(SLEEPS)
    delays = []
    for _ in range(8):
        mortal.started = 100.0
        mortal.note_death(100.0)
        delays.append(mortal.due - 100.0)
    assert delays[0] < 0.4 and delays[5] > 5 and max(delays) <= launcher.LONGEST_DELAY * 1.2


def test_a_long_life_is_forgiven():
    mortal = child(SLEEPS)
    mortal.deaths, mortal.started = 7, 0.0
    mortal.note_death(100.0)
    assert mortal.deaths == 1


def test_a_child_that_cannot_live_ends_the_launcher(monkeypatch):
    monkeypatch.setattr(launcher, "FIRST_DELAY", 0.001)
    said = []
    with socket.socket() as listener:
        keeper = Launcher(listener, said.append, {})
        keeper._web, keeper._worker = child(ENDS), child(SLEEPS)
        assert keeper.run() == 1
    assert "8 times in a row" in said[-2] and "doctor" in said[-1]
    assert not keeper._worker.is_alive


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "DOUBLE", 0.2)
    ready = tmp_path / "ready"
    code = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w'); time.sleep(60)"

    def ctrl_c_twice():
        while not ready.exists():
            time.sleep(0.01)
        keeper._on_signal()
        time.sleep(0.3)
        keeper._on_signal()

    with socket.socket() as listener:
        keeper = Launcher(listener, lambda line: None, {})
        keeper._web, keeper._worker = child(SLEEPS), child([sys.executable, "-c", code])
        threading.Thread(target=ctrl_c_twice, daemon=True).start()
        assert keeper.run() == 0
    assert keeper._worker.process.returncode == -signal.SIGKILL


def test_a_worker_that_swallows_an_interrupt_while_it_starts_ends_all_the_same(tmp_path):
    ready = tmp_path / "ready"
    code = (
        f"import time; open({str(ready)!r}, 'w')\n"
        "for _ in range(600):\n try: time.sleep(0.1)\n except KeyboardInterrupt: pass"
    )

    def end():
        while not ready.exists():
            time.sleep(0.01)
        keeper._on_signal()

    with socket.socket() as listener:
        keeper = Launcher(listener, lambda line: None, {})
        keeper._web, keeper._worker = child(SLEEPS), child([sys.executable, "-c", code])
        threading.Thread(target=end, daemon=True).start()
        assert keeper.run() == 0
    assert keeper._worker.process.returncode == -signal.SIGTERM


@pytest.fixture(autouse=True)
def _signals():
    """The launcher takes over the process's signal handlers; give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_children_end_with_the_pipe():
    reader, writer = os.pipe()
    code = (
        "from mlxplatform.core.lifeline import follow_parent; import time; "
        f"follow_parent({reader}); print(1, flush=True); time.sleep(60)"
    )
    orphan = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, pass_fds=(reader,), stdout=subprocess.PIPE)
    assert orphan.stdout.readline() == b"1\n"
    os.close(reader)
    os.close(writer)
    assert orphan.wait(timeout=10) == 70
