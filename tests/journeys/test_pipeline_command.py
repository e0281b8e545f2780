"""The operator's road: a file, one command, a live dashboard's worker, an alias at the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.house import ROOT, House

SEED = """
import django
django.setup()
from mlxplatform.core.access import Role, make_user
from registry.models import ModelVersion, RegisteredModel
from training.models import Dataset, DatasetVersion
make_user("ada", Role.ADMIN, superuser=True)
model = RegisteredModel.objects.create(name="tiny")
ModelVersion.objects.create(model=model, n=1, kind="base", path="models/tiny", model_type="llama", context_length=512)
data = Dataset.objects.create(name="rows")
DatasetVersion.objects.create(dataset=data, n=1, sha256="rows", data_format="chat", rows_train=40, rows_valid=6)
"""
PIPELINE = """
schema: 1
name: Teach
inputs:
  model: {type: model}
  data: {type: dataset, formats: [chat]}
  updates: {type: number, default: 10}
steps:
  - name: sft
    kind: train
    uses: {model: inputs.model, data: inputs.data}
    settings: {iters: "${inputs.updates}", batch_size: 2, max_seq_length: 64, sample_tokens: 0, learning_rate: 0.01}
  - name: gate
    kind: gate
    uses: {metrics: sft.metrics}
    settings: {condition: val_loss < first_val_loss}
  - name: register
    kind: register
    uses: {model: sft.model}
    settings: {alias: champion}
    after: [gate]
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "home")
    yield made
    made.close()


def command(house: House, *words: str) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "manage.py", "pipeline", *words)
    return subprocess.run(
        words, cwd=ROOT, env=house.environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_a_file_becomes_a_champion_with_one_command(house: House, tmp_path: Path) -> None:
    file = tmp_path / "teach.yaml"
    file.write_text(PIPELINE)
    house.python("-c", SEED)
    house.serve()
    chosen = ("--input", "model=tiny", "--input", "data=rows")
    wrong = command(house, "run", str(file), *chosen, "--input", "updates=0", "--wait")
    assert wrong.returncode == 1 and "Step 'sft': iters" in wrong.stderr and "Traceback" not in wrong.stderr
    done = command(house, "run", str(file), *chosen, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr + house.log()
    assert "run: succeeded" in done.stdout and "champion points at" in done.stdout
    assert house.query("SELECT name FROM registry_alias") == [("champion",)]
    assert "register: succeeded" in command(house, "logs", "1").stdout
    again = command(house, "run", str(file), *chosen, "--wait")
    assert again.returncode == 0 and house.query("SELECT COUNT(*) FROM training_job") == [(1,)]
