"""One rank by itself: its way to the captain, its place among the devices, its end with the captain."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from training.engine.errors import Exit, MemoryShortage, StopAsked
from training.engine.run import rank
from training.engine.run.rank import FAILED, Mute, RankSession, Wire
from training.engine.run.rundir import RunDir

FOLLOW = (
    "import sys, time; from training.engine.run import rank; "
    "rank.follow(sys.argv[1]); print(1, flush=True); time.sleep(60)"
)


@pytest.fixture
def second(tmp_path: Path) -> RankSession:
    return RankSession(RunDir(tmp_path), 1, Mute(1), is_first=False)


def test_a_wire_carries_events_one_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    wire = Wire(tmp_path / "pipe")
    wire.write("metrics", step=1, values={"train_loss": 2.5})
    wire.log("ä", "warning")
    first, second = map(json.loads, os.read(reader, 4096).splitlines())
    os.close(reader)
    assert first == {"event": "metrics", "fields": {"step": 1, "values": {"train_loss": 2.5}}}
    assert second == {"event": "log", "fields": {"level": "warning", "message": "ä"}}


def test_a_silent_rank_tells_only_why_it_failed(second: RankSession, capfd: pytest.CaptureFixture[str]) -> None:
    def work(session: object) -> dict[str, object]:
        second.log("never seen")
        raise MemoryShortage("memory.out", "Too large.", "Take less.")

    assert second.run(work) == Exit.MEMORY
    line = next(line for line in capfd.readouterr().out.splitlines() if line.startswith(FAILED))
    assert json.loads(line.removeprefix(FAILED)) == {
        "rank": 1, "code": "memory.out", "message": "Too large.", "hint": "Take less.", "family": "memory", "trace": "",
    }  # fmt: skip


def test_it_holds_no_lock_and_writes_no_file(second: RankSession) -> None:
    assert second.run(lambda s: {}) == Exit.FINISHED
    assert list(second.run_dir.root.iterdir()) == []


def test_only_the_first_may_end_before_the_ranks_train_together(second: RankSession, tmp_path: Path) -> None:
    first = RankSession(RunDir(tmp_path), 1, Mute(0), is_first=True)
    first.stopping = second.stopping = StopAsked("signal", Exit.STOPPED)
    second.check()
    with pytest.raises(StopAsked):
        first.check()


@pytest.mark.parametrize(
    ("given", "devices", "expected"),
    [("1", "2,3", "3"), ("0", "GPU-a,GPU-b", "GPU-a"), ("1", "", "1"), ("5", "2,3", "5"), ("", "2", "")],
)
def test_it_takes_its_device_among_those_allowed(
    given: str, devices: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    rank._choose_device(devices)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_it_ends_with_its_captain() -> None:
    captain = subprocess.Popen(["sleep", "60"])
    about = f"{socket.gethostname()}:{captain.pid}"
    with subprocess.Popen([sys.executable, "-c", FOLLOW, about], stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        follower.stdout.readline()
        captain.send_signal(signal.SIGKILL)  # nobody waits for it: it stays behind as a zombie
        assert follower.wait(10) == Exit.BUG
    captain.wait()


def test_a_captain_of_another_host_is_ssh_business() -> None:
    rank.follow("another-host.example:1")


def test_it_is_numbered_by_whoever_launched_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLX_RANK", raising=False)
    with pytest.raises(SystemExit):
        rank._number()
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "2")
    assert rank._number() == 2
    monkeypatch.setenv("MLX_RANK", "1")
    assert rank._number() == 1
