"""What the engine says about the machine, and how it prepares MLX."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx

from training.engine.machine import device


def test_names_the_device_for_the_journal() -> None:
    found = device.detect()
    assert found.backend == ("metal" if mx.metal.is_available() else "cuda" if mx.cuda.is_available() else "cpu")
    assert found.name
    assert found.memory > 1 << 28
    assert found.threads >= 1
    assert found.deterministic is found.is_cpu
    assert bool(found.blas) is found.is_cpu
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()


PROGRAM = """
import sys, os
from pathlib import Path
import mlx.core as mx
from training.engine.machine import device
found = device.set_up(int(sys.argv[1]), Path(sys.argv[2]))
print(mx.random.normal((3,)).tolist(), os.environ["MLX_PTX_CACHE_DIR"])
"""


def set_up(seed: int, cache: Path) -> str:
    command = [sys.executable, "-c", PROGRAM, str(seed), str(cache)]
    clean = {name: value for name, value in os.environ.items() if name != "MLX_PTX_CACHE_DIR"}  # of an earlier test
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=clean).stdout


def test_the_same_seed_draws_the_same_numbers(tmp_path: Path) -> None:
    first = set_up(7, tmp_path / "kernels")
    assert first == set_up(7, tmp_path / "kernels")
    assert first != set_up(8, tmp_path / "kernels")
    assert str(tmp_path / "kernels" / "ptx") in first
    assert (tmp_path / "kernels" / "ptx").is_dir()
