"""``manage.py demo`` ends what it started, however it is asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.chaos.house import ROOT, free_port

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_demo_and_its_dashboard(number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with open(log, "wb") as out:
        demo = subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--port", str(free_port())],
            cwd=ROOT,
            env={**os.environ, "MLXP_HOME": str(tmp_path / "home"), "MLXP_RESERVE_GB": "0"},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    end = time.monotonic() + 60
    while b"Getting model" not in log.read_bytes() and time.monotonic() < end:
        assert demo.poll() is None, log.read_text()
        time.sleep(0.1)
    children = psutil.Process(demo.pid).children(recursive=True)
    assert children
    demo.send_signal(number)
    assert demo.wait(30) == 0, log.read_text()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert [p.cmdline() for p in alive] == []
