"""A training of two real processes: the parameters of one, whatever happens to either."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import mlx.core as mx
import psutil
import pytest

from tests.engine import method_data, runs
from tests.training.runs import wait
from training.engine.errors import Exit, MemoryShortage, RankDied, StopAsked
from training.engine.run import captain
from training.engine.run.rundir import RunDir
from training.engine.run.session import Session

STEPS = 20  # enough that a stop comes before the end
SHORT = {"rank": 1, "code": "memory.out", "message": "It is too large.", "family": "memory", "hint": "Take less."}
ODD = {"batch_size": 3, "grad_accumulation_steps": 2, "iters": STEPS, "learning_rate": 1e-3, "save_every": 4}


@pytest.fixture(scope="module")
def request_of(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A configuration with an odd number of rows in micro-batch, epoch and validation set, for some ranks."""
    data = runs.data(tmp_path_factory.mktemp("data"), train=runs.rows(14), valid=runs.rows(5))
    return lambda ranks, **more: {**runs.request(tiny_llama, data, **ODD), "ranks": ranks, **more}


@pytest.fixture(scope="module")
def alone(request_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One rank that nobody disturbed."""
    root = tmp_path_factory.mktemp("alone") / "run"
    assert runs.run(root, request_of(1)) == Exit.FINISHED
    return root


def assert_like(alone: Path, root: Path) -> None:
    assert runs.last(root).event == "finished"
    for file in ("adapters", "optimizer"):
        left, right = runs.arrays(alone, STEPS, file), runs.arrays(root, STEPS, file)
        assert left.keys() == right.keys()
        assert all(mx.allclose(left[k], right[k], rtol=0, atol=1e-5) for k in left), file
    for name in ("train_loss", "grad_norm"):
        assert runs.points(root, name) == pytest.approx(runs.points(alone, name), abs=1e-5)
    assert runs.points(root, "trained_tokens") == runs.points(alone, "trained_tokens")


def of(root: Path) -> list[psutil.Process]:
    """Every process that works for the run."""
    found = psutil.process_iter(["cmdline", "status"])
    alive = [p for p in found if p.info["status"] != psutil.STATUS_ZOMBIE and str(root) in (p.info["cmdline"] or [])]
    return [p for p in alive if p.pid != os.getpid()]


def ranks(root: Path) -> list[psutil.Process]:
    return [p for p in of(root) if p.cmdline()[3] == "rank"]


def test_two_ranks_are_one(request_of: Any, alone: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    assert runs.start(root, request_of(2)).wait(60) == Exit.FINISHED
    assert_like(alone, root)
    machine = next(e.fields for e in runs.events(root) if e.event == "machine")
    assert (machine["ranks"], machine["threads"]) == (2, 1)
    assert [e.event for e in runs.events(root)].count("started") == 1
    assert of(root) == []


@pytest.mark.parametrize("method", ["dpo", "reward_model"])
def test_two_ranks_are_one_for_pairs_and_heads_too(method: str, tiny_llama: Path, tmp_path: Path) -> None:
    data = method_data.data(tmp_path / "data", method, train=9, valid=3)
    asked = runs.request(tiny_llama, data, method=method, batch_size=3, iters=4, learning_rate=1e-3)
    assert runs.run(tmp_path / "one", asked) == Exit.FINISHED
    assert runs.start(tmp_path / "two", {**asked, "ranks": 2}).wait(60) == Exit.FINISHED
    one, two = (runs.arrays(tmp_path / name, 4) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(mx.allclose(one[k], two[k], rtol=0, atol=1e-5) for k in one)
    for name in ("train_loss", "train_reward_margin"):
        assert runs.points(tmp_path / "two", name) == pytest.approx(runs.points(tmp_path / "one", name), abs=1e-5)


def test_two_ranks_go_on_where_one_stopped(request_of: Any, alone: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    assert runs.run(root, request_of(1), halt=(3, 1)) == Exit.STOPPED
    assert runs.start(root, request_of(2)).wait(60) == Exit.FINISHED
    assert_like(alone, root)


def test_one_goes_on_where_two_were_asked_to_stop(request_of: Any, alone: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    process = runs.start(root, request_of(2, save_every=1000))
    runs.until(root, runs.is_step(2), process)
    process.terminate()
    assert process.wait(30) == Exit.STOPPED
    assert (runs.last(root).event, runs.last(root).fields["why"]) == ("stopped", "signal SIGTERM")
    assert len(list((root / "checkpoints").iterdir())) == 1 and of(root) == []
    assert runs.run(root, request_of(1)) == Exit.FINISHED
    assert_like(alone, root)


def test_a_killed_captain_takes_its_ranks_along_and_a_killed_rank_its_captain(
    request_of: Any, alone: Path, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    process = runs.start(root, request_of(2), TMPDIR=str(tmp_path))
    runs.until(root, runs.is_step(2), process)
    process.kill()
    wait(lambda: not of(root), 10)
    assert list(tmp_path.glob("mlxp-ranks-*")) == []
    process = runs.start(root, request_of(2))
    runs.until(root, runs.is_step(6), process)
    ranks(root)[1].kill()
    assert process.wait(30) == -signal.SIGKILL  # no last word: the platform counts it as lost
    assert of(root) == []
    assert (runs.events(root)[-1].event, runs.events(root)[-1].fields["level"]) == ("log", "warning")
    assert runs.run(root, request_of(1)) == Exit.FINISHED
    assert_like(alone, root)


def test_a_failure_of_all_ranks_is_told_once_and_with_its_own_code(request_of: Any, tmp_path: Path) -> None:
    root = tmp_path / "run"
    assert runs.start(root, request_of(2, data=str(tmp_path))).wait(60) == Exit.DATA
    assert runs.last(root).fields["code"] == "data.empty"


def test_the_failure_of_another_rank_than_the_first_names_it() -> None:
    error = captain._error(SHORT, 2)
    assert (error.exit_code, error.message) == (Exit.MEMORY, "Rank 1 of 2: It is too large.")


@pytest.mark.parametrize(
    ("asked", "failures", "expected"),
    [
        (True, [SHORT], StopAsked),  # somebody wanted the end anyway
        (False, [SHORT], MemoryShortage),  # a rank short of memory lets all save, then says why
        (False, [{**SHORT, "code": captain.PEER_LOST}], StopAsked),
        (False, [], StopAsked),
    ],
)
def test_why_ranks_have_stopped(asked: bool, failures: list[Any], expected: type[Exception], tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    session = Session(run, run.attempt(1))
    session.stopping = StopAsked("signal SIGTERM", Exit.STOPPED) if asked else None
    told = captain.Captain(session, 2)
    told._word, told._failures = ("stopped", {"why": "another rank was asked to stop", "exit_code": 10}), failures
    with pytest.raises(expected):
        told.verdict()


def test_hosts_need_the_operators_leave(request_of: Any, tmp_path: Path) -> None:
    root = tmp_path / "run"
    assert runs.start(root, request_of(2, hosts=["other"])).wait(30) == Exit.CONFIG
    assert runs.last(root).fields["code"] == "hosts.not_allowed"


def test_ranks_that_cannot_meet_are_a_mistake_of_the_request(request_of: Any, tmp_path: Path) -> None:
    root = tmp_path / "run"
    assert runs.start(root, request_of(2, backend="nccl")).wait(60) == Exit.CONFIG  # no NVIDIA device here
    assert runs.last(root).fields["code"] == "distributed.no_group"
    assert of(root) == []


def test_ranks_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    assert [captain.environment(n)["OPENBLAS_NUM_THREADS"] for n in (1, 2, 8)] == ["5", "2", "1"]


def test_ports_are_free_and_neighbours() -> None:
    first = captain.free_ports(3)
    for port in range(first, first + 3):
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))


def test_an_exit_code_is_echoed_and_never_0() -> None:
    assert [captain.die_like(RankDied(1, code)) for code in (134, 0)] == [134, Exit.BUG]
