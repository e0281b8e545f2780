"""Models from the hub: pinned to a commit, only harmless files, and clear words when it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from tests.engine.tuning.test_fuse import CPU, IDS, trained
from tests.fakes import hub as fake
from training.engine.catalog.adapters import Lora
from training.engine.folders.places import Place
from training.engine.models import loading
from training.engine.tuning import fuse, peft

# The hub's library reads its settings once, when it is imported: every test is a process of its own.
PROGRAM = """
import json, sys
from pathlib import Path
from training.engine.commands import import_model
from training.engine.errors import EngineError
from training.engine.config.imports import ImportModelConfig
class Say:
    seen = []
    def phase(self, name, done=None, total=None, detail=""): self.seen.append([name, done, total])
    def log(self, message, level="info"): pass
source = {"kind": "hub", "repo_id": sys.argv[1]}
try:
    base = sys.argv[3] if len(sys.argv) > 3 else None
    config = ImportModelConfig.model_validate({"schema": 1, "source": source, "target": sys.argv[2], "base": base})
    result = import_model.run(config, Say())
    print(json.dumps({"result": result, "phases": Say.seen}))
except EngineError as error:
    print(json.dumps({"code": error.code, "message": error.message, "hint": error.hint}))
"""


@pytest.fixture
def hub(tiny_llama: Path) -> Iterator[fake.Hub]:
    with fake.serve(tiny_llama) as served:
        served.files |= {"pytorch_model.bin": b"pickle", "modeling_tiny.py": b"print('run')"}
        yield served


def fetch(address: str, target: Path, *base: Path, **environment: str) -> dict[str, Any]:
    env = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(target.parent / "hf"), **environment}
    command = [sys.executable, "-c", PROGRAM, fake.REPO, str(target), *map(str, base)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_fetches_the_model_at_a_commit(hub: fake.Hub, tmp_path: Path, tiny_llama: Path) -> None:
    answer = fetch(hub.address, tmp_path / "m", HF_TOKEN="hf_secret")
    result = answer["result"]
    assert (result["revision"], result["source"], result["license"]) == (fake.COMMIT, "hub:someone/tiny", "mit")
    assert result["remote_code"] == ["modeling_tiny.py"]
    assert result["left_out"] == ["modeling_tiny.py", "pytorch_model.bin"]
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (tiny_llama / "model.safetensors").read_bytes()
    assert loading.inspect(tmp_path / "m").parameters == result["parameters"]
    assert not [path for path in hub.asked if path.endswith((".py", ".bin"))]
    assert hub.tokens == {"Bearer hf_secret"}
    assert "hf_secret" not in json.dumps(answer)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "hf") == ["m"]


def test_fetches_pefts_adapter_for_a_base(tiny_llama: Path, tmp_path: Path) -> None:
    trained(loading.load(tiny_llama, "auto", CPU).model, Lora(rank=2), tmp_path / "a")
    peft.write(tmp_path / "a", tmp_path / "peft")
    with fake.serve(tmp_path / "peft") as served:
        served.files |= {"trap.py": b"print('run')"}
        result = fetch(served.address, tmp_path / "m", tiny_llama)["result"]
        assert not [path for path in served.asked if path.endswith(".py")]
        refused = fetch(served.address, tmp_path / "other")  # as a whole model
    assert (result["model_type"], result["revision"]) == ("llama", fake.COMMIT)
    placed = fuse.load_place(Place(model=tiny_llama, adapter=tmp_path / "m"), "auto", CPU)
    wanted = fuse.load_place(Place(model=tiny_llama, adapter=tmp_path / "a"), "auto", CPU)
    assert mx.array_equal(placed.loaded.model(IDS), wanted.loaded.model(IDS))
    assert refused["code"] == "model.no_config"


def test_says_how_far_the_download_is(hub: fake.Hub, tmp_path: Path) -> None:
    phases = fetch(hub.address, tmp_path / "m")["phases"]
    assert [p for p in phases if p[0] == "download" and p[1] and p[1] == p[2]]


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (404, "RepoNotFound", "model.hub_unknown"),
        (404, "RevisionNotFound", "model.hub_revision"),
        (401, "RepoNotFound", "model.hub_unknown"),
        (403, "GatedRepo", "model.hub_gated"),
        (400, "", "model.hub_refused"),
    ],
)
def test_what_the_hub_refuses_is_named(hub: fake.Hub, tmp_path: Path, status: int, error: str, code: str) -> None:
    hub.status, hub.error = status, error
    answer = fetch(hub.address, tmp_path / "m")
    assert answer["code"] == code
    assert answer["hint"]


def test_offline_says_so_within_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    answer = fetch("http://127.0.0.1:9", tmp_path / "m")
    assert answer["code"] == "model.hub_unreachable"
    assert "cannot be reached" in answer["message"]
    assert time.monotonic() - started < 30


def test_a_hub_that_is_switched_off_says_so(tmp_path: Path) -> None:
    answer = fetch("http://127.0.0.1:9", tmp_path / "m", HF_HUB_OFFLINE="1")
    assert answer["code"] == "model.hub_unreachable"
    assert "HF_HUB_OFFLINE" in answer["message"]


def test_a_hub_without_safetensors_is_refused(hub: fake.Hub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"]
    assert fetch(hub.address, tmp_path / "m")["code"] == "model.pickle"
    assert not [path for path in hub.asked if "/resolve/" in path]
