"""A data folder for this run of pytest, made before Django's settings are read.

pytest-django reads them before any conftest is loaded, so this is a plugin of its own (``-p tests.home``).
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

HOME = Path(tempfile.mkdtemp(prefix="mlxp-test-"))
(HOME / "static").mkdir()  # serve makes it; without it every request of a test would warn
os.environ["MLXP_HOME"] = str(HOME)
os.environ["MLXP_RESERVE_GB"] = "0"
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
