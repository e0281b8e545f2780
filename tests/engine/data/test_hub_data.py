"""Real ``datasets`` and ``huggingface_hub`` code against a Hub on this machine, and against none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import data_hub

FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "data/train-00000-of-00001.jsonl": b"".join(b'{"prompt": "p%d", "completion": "c"}\n' % n for n in range(40)),
    "data/test-00000-of-00001.jsonl": b'{"prompt": "t", "completion": "c"}\n',
}
SCRIPT = """
import json, sys
from training.engine.errors import DataError
from training.engine.commands.import_dataset import run
from training.engine.config.imports import ImportDatasetConfig
try:
    found = run(ImportDatasetConfig.model_validate_json(sys.argv[1]))
except DataError as error:
    found = {"code": error.code, "message": error.message, "problems": len(error.problems)}
print(json.dumps(found))
"""


def imported(tmp_path: Path, endpoint: str, repo: str = "owner/data", **environment: str) -> dict[str, Any]:
    """The import in a process of its own: ``huggingface_hub`` reads its address once, at its own import."""
    config = {"source": {"kind": "hub", "repo_id": repo}, "target": str(tmp_path / "data")}
    known = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(config)], capture_output=True, check=True, timeout=120, env=known
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_splits_and_commit_are_kept(tmp_path: Path) -> None:
    with data_hub.serve("owner/data", FILES) as endpoint:
        found = imported(tmp_path, endpoint)
    assert found["rows"] == {"train": 38, "valid": 2, "test": 1}
    about = json.loads((Path(found["path"]) / "about.json").read_text())
    assert about["source"]["commit"] == data_hub.COMMIT


def test_bad_row_names_its_place(tmp_path: Path) -> None:
    files = FILES | {"data/test-00000-of-00001.jsonl": b'{"prompt": "t", "completion": ""}\n'}
    with data_hub.serve("owner/data", files) as endpoint:
        found = imported(tmp_path, endpoint)
    assert (found["code"], found["problems"]) == ("data.bad_rows", 1)
    assert "owner/data/test, line 1: `completion` is empty." in found["message"]


def test_unknown_data_set_is_named(tmp_path: Path) -> None:
    with data_hub.serve("owner/data", FILES) as endpoint:
        found = imported(tmp_path, endpoint, repo="owner/none")
    assert found["code"] == "data.hub_not_found"


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["no answer", "told to stay offline"])
def test_without_a_hub_it_says_so_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    begun = time.monotonic()
    found = imported(tmp_path, "http://127.0.0.1:9", **environment)
    assert found["code"] == "data.hub_unreachable"
    assert time.monotonic() - begun < 60  # most of it is the import of `datasets`
    assert not (tmp_path / "data").exists()
