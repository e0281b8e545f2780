"""The GPU bench on a tiny shape: our engine and mlx-lm as real processes, whatever the device is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.child import ROOT
from tests.bench.run import read

pytestmark = pytest.mark.bench


def test_rows_measured_in_pieces_make_one_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench.cuda", "--shape", "tiny", "--seconds", "2"]
    environment = {**os.environ, "MLXP_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for row in ("mlx-lm-16", "lora", "peft-16"):
        done = subprocess.run([*command, "--rows", row], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    runs = {run.row: run for run in read(tmp_path / "bench" / "cuda-tiny.jsonl")}
    assert list(runs) == ["mlx-lm-16", "lora", "peft-16"]
    assert "| mlx-lm, LoRA, batch 16 |" in done.stdout
    assert runs["mlx-lm-16"].late_rate
    for run in runs.values():
        assert run.skipped or run.device_gib > 0
