"""Two and three real processes: what they sum, and that any number of ranks trains the same model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from tests.engine import group_program
from training.engine.errors import Exit, StopAsked
from training.engine.loop.distributed import Group
from training.engine.run.captain import free_ports
from training.engine.run.rundir import RunDir
from training.engine.run.session import Session


@pytest.fixture(scope="module", params=[2, 3])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank of a group saw."""
    folder, size = tmp_path_factory.mktemp("group"), request.param
    options = ["--backend", "ring", "-n", str(size), "--starting-port", str(free_ports(size)), "--"]
    program = [sys.executable, "-m", "tests.engine.group_program", str(size), str(folder)]
    command = [sys.executable, "-m", "training.engine.machine.launch", *options, *program]
    reader, writer = os.pipe()  # an input that never ends: mlx.launch takes an end for news, for ever
    try:
        done = subprocess.run(command, stdin=reader, capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(reader)
        os.close(writer)
    assert len(list(folder.iterdir())) == size, done.stdout + done.stderr
    return [json.loads((folder / str(rank)).read_text()) for rank in range(size)]


def test_every_rank_knows_its_place(seen: list[dict[str, Any]]) -> None:
    assert [(s["rank"], s["size"], s["first"]) for s in seen] == [(i, len(seen), i == 0) for i in range(len(seen))]


def test_shares_are_disjoint_complete_and_even(seen: list[dict[str, Any]]) -> None:
    shares = [s["share"] for s in seen]
    assert sorted(size for share in shares for size in share) == sorted(group_program.SIZES)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert max(map(sum, shares)) - min(map(sum, shares)) <= max(group_program.SIZES)


def test_numbers_are_summed_for_all(seen: list[dict[str, Any]]) -> None:
    size = len(seen)
    assert [s["total"] for s in seen] == [[sum(range(size)) + size / 2, 100.0 * size]] * size
    assert [s["most"] for s in seen] == [[size - 1, 0]] * size


def test_gradients_are_summed_and_are_the_same_bits_everywhere(seen: list[dict[str, Any]]) -> None:
    expected = [group_program.tree(rank) for rank in range(len(seen))]
    for name, found in seen[0]["sum"].items():
        assert mx.allclose(mx.array(found), sum((t[name]["a"] for t in expected), mx.array(0.0)), atol=1e-5)
    assert all(s["sum"] == seen[0]["sum"] for s in seen)


def test_ranks_with_other_files_are_refused(seen: list[dict[str, Any]]) -> None:
    assert [(s["same"], s["different"]) for s in seen] == [("", "distributed.different")] * len(seen)


def test_ranks_draw_different_numbers_and_the_first_those_of_one_process(seen: list[dict[str, Any]]) -> None:
    mx.random.seed(7)
    assert seen[0]["key"] == mx.random.state[0].tolist()
    assert len({tuple(s["key"]) for s in seen}) == len(seen)


def test_a_stop_of_one_is_a_stop_of_all_at_one_place(seen: list[dict[str, Any]]) -> None:
    assert [(s["before"], s["stop"]) for s in seen] == [("", "stop")] * len(seen)


def test_the_end_of_one_is_heard_by_the_others(seen: list[dict[str, Any]]) -> None:
    assert [s["alone"] for s in seen[:-1]] == ["distributed.peer_lost"] * (len(seen) - 1)


def test_a_group_of_one_changes_nothing(tmp_path: Path) -> None:
    session = Session(RunDir(tmp_path), RunDir(tmp_path).attempt(1))
    group, gradients = Group(session), {"w": mx.ones(3)}
    assert group.sum(gradients) is gradients
    assert (group.total(1.5, 2), group.most(3), group.share("ab", [1, 2])) == ([1.5, 2], [3], ["a", "b"])
    session.stopping = StopAsked("signal", Exit.STOPPED)
    with pytest.raises(StopAsked):
        group.check()
