"""Memory that is kept from step to step: the settings, and that they do what they are for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from training.engine.machine import allocator

FAULTS = """
import resource, mlx.core as mx
x = mx.ones((1 << 24,)); mx.eval(x)
def work():
    for _ in range(5): mx.eval(x * 2 + 1)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="settings of the GNU C library")
def test_pages_are_not_cleared_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS], env=env, capture_output=True, check=True).stdout)
        for env in (dict(os.environ), os.environ | allocator.environment())
    )
    assert kept * 10 < plain


def test_what_is_set_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "7")
    assert "MALLOC_MMAP_MAX_" not in allocator.environment()
