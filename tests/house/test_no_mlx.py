"""Neither the web process nor the worker ever loads an array library: each is looked at in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("mlx", "mlx_lm", "transformers", "datasets", "pyarrow", "numpy", "tokenizers", "torch")
PROCESSES = {
    "web": "import mlxplatform.web, mlxplatform.asgi, mlxplatform.urls; mlxplatform.web.config().load()",
    "worker": "import django; django.setup(); import training.worker, training.supervisor, training.tasks",
    "launcher": "import django; django.setup(); import mlxplatform.launcher, mlxplatform.management.commands.serve",
    "doctor": "import django; django.setup(); import mlxplatform.management.commands.doctor",
}


@pytest.mark.parametrize("name", PROCESSES)
def test_is_light(name, tmp_path):
    code = f"import sys; {PROCESSES[name]}; print(*[m for m in {HEAVY} if m in sys.modules])"
    environment = {**os.environ, "MLXP_HOME": str(tmp_path), "DJANGO_SETTINGS_MODULE": "mlxplatform.settings"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
