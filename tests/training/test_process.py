from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.training.runs import wait
from training.engine.run.rundir import RunDir
from training.process import Identity, environment, find, is_alive, kill_group, spawn, start_time


@pytest.fixture
def run(tmp_path, fake_engine):
    """A prepared run folder; whatever is started in it is killed afterwards."""
    folder = RunDir(tmp_path / "run")
    folder.attempt(1).prepare(1)
    yield folder
    while found := find(folder):
        os.killpg(found.pid, signal.SIGKILL)
        wait(lambda: not is_alive(found, folder))


def test_an_engine_leads_a_session_and_writes_to_a_file(run, fake_engine):
    fake_engine("crash_before_started")
    engine = spawn("train", run, 1)
    assert wait(engine.exit).signal == signal.SIGKILL
    assert "Segmentation fault" in run.attempt(1).stdout.read_text()
    assert run.attempt(1).stdout.stat().st_mode & 0o077 == 0


def test_it_is_found_again_by_its_run_folder(run, fake_engine):
    fake_engine("deaf")
    engine = spawn("train", run, 1)
    wait(lambda: find(run))
    assert find(run).pid == engine.pid
    assert os.getsid(engine.pid) == engine.pid != os.getsid(0)
    engine.signal(signal.SIGKILL)
    wait(engine.exit)
    assert find(run) is None


def test_a_reused_number_is_a_stranger(run):
    me = os.getpid()
    assert is_alive(Identity(me, start_time(me)), run)
    assert not is_alive(Identity(me, start_time(me) - 100), run)
    assert not is_alive(Identity(me, None), run)


def test_after_the_clock_was_set_the_command_line_tells(run, fake_engine):
    fake_engine("deaf")
    engine = spawn("train", run, 1)
    wait(lambda: find(run))
    assert is_alive(Identity(engine.pid, engine.identity.start - 7200), run)


def test_a_zombie_is_dead(run):
    child = subprocess.Popen([sys.executable, "-c", ""])
    identity = Identity(child.pid, start_time(child.pid))
    wait(lambda: not is_alive(identity, run))
    child.wait()


def test_the_group_of_a_stranger_is_left_alone(run):
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    kill_group(stranger.pid)
    time.sleep(0.05)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_no_loader_variables_reach_the_engine(monkeypatch):
    for name in ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "AWS_SECRET", "DJANGO_SETTINGS_MODULE"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    passed = environment()
    assert {"PATH", "MLXP_HOME", "HF_TOKEN"} <= set(passed)
    assert not {"LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "AWS_SECRET", "DJANGO_SETTINGS_MODULE"} & set(passed)
