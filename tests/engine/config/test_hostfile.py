"""MLX's hostfile: which machines a training may use, and what mlx.launch is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.engine.config import hostfile
from training.engine.config.hostfile import HERE, Hostfile
from training.engine.errors import ConfigError

ROWS = [
    {"ssh": "studio", "ips": ["10.0.0.1"], "rdma": [None, "rdma_en2", "rdma_en3"]},
    {"ssh": "mini", "ips": ["10.0.0.2"], "rdma": ["rdma_en2", None, "rdma_en4"]},
    {"ssh": "air.local", "ips": ["10.0.0.3"], "rdma": ["rdma_en3", "rdma_en4", None]},
]


@pytest.fixture
def three(tmp_path: Path) -> Hostfile:
    (tmp_path / "hosts.json").write_text(json.dumps({"hosts": ROWS, "envs": ["MLX_METAL_FAST_SYNCH=1"]}))
    return hostfile.read(tmp_path / "hosts.json")


def test_without_a_file_there_is_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hostfile.VARIABLE, raising=False)
    entry = {"ssh": HERE, "ips": [HERE], "rdma": []}
    assert hostfile.load().deal([], 2) == {"hosts": [entry, entry], "envs": []}
    with pytest.raises(ConfigError, match="No training may run on 'mini'") as refused:
        hostfile.load().deal(["mini"], 2)
    assert (refused.value.code, refused.value.problems[0].loc) == ("hosts.not_allowed", ("hosts",))


def test_ranks_are_dealt_evenly_and_the_first_ones_here(three: Hostfile) -> None:
    told = three.deal(["air.local"], 4)
    assert [h["ssh"] for h in told["hosts"]] == [HERE, HERE, "air.local", "air.local"]
    assert [h["ips"] for h in told["hosts"]] == [["10.0.0.1"]] * 2 + [["10.0.0.3"]] * 2
    assert told["hosts"][0]["rdma"] == [None, "rdma_en3"]
    assert told["envs"] == ["MLX_METAL_FAST_SYNCH=1"]


def test_this_machine_is_no_further_host(three: Hostfile) -> None:
    assert three.names == ["mini", "air.local"]
    assert three.problem(["studio"]) is not None


def test_mlx_reads_what_it_is_told(three: Hostfile, tmp_path: Path) -> None:
    from mlx._distributed_utils.common import Hostfile as MLXHostfile

    (tmp_path / "told.json").write_text(json.dumps(three.deal(["mini"], 2)))
    read = MLXHostfile.from_file(tmp_path / "told.json")
    assert [(h.rank, h.ssh_hostname, h.ips) for h in read.hosts] == [(0, HERE, ["10.0.0.1"]), (1, "mini", ["10.0.0.2"])]


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "{}", "3", '[{"ips": []}]', '[{"ssh": 3}]', '[{"ssh": "a", "ips": 3}]', '{"hosts": 1}',
        '[{"ssh": "-oProxyCommand=x"}]', '[{"ssh": "a b"}]', '[{"ssh": "a;b"}]', '[{"ssh": "a\\n"}]',
        '[{"ssh": "a", "ips": ["$(x)"]}]', '{"hosts": [{"ssh": "a"}], "envs": [1]}',
    ],
)  # fmt: skip
def test_a_broken_file_is_named_and_nothing_of_it_used(content: str, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "hosts.json").write_text(content)
    monkeypatch.setenv(hostfile.VARIABLE, str(tmp_path / "hosts.json"))
    with pytest.raises(ConfigError, match=r"The hostfile hosts.json cannot be used") as refused:
        hostfile.load()
    assert refused.value.code == "hosts.file"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be used: .*No such file"):
        hostfile.read(tmp_path / "hosts.json")
