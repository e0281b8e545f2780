"""Which Python files of this machine may score answers: an allow-list that only the operator writes.

``MLXP_REWARD_MODULES`` names files, separated by commas; they lie in the folder ``rewards`` of the data folder
(``MLXP_HOME``). Neither a form nor the API can add one, and only the engine's process runs them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from training.engine.errors import ConfigError

VARIABLE = "MLXP_REWARD_MODULES"
FOLDER = "rewards"
_HOME = Path(__file__).resolve().parents[3] / "var"


def listed() -> list[str]:
    """The names of the allowed files."""
    return [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]


def find(name: str) -> Path:
    """The allowed file ``name``.

    Raises ConfigError ``rule.module_not_listed``, ``rule.module_missing``, ``rule.module_writable``.
    """
    if name not in listed() or Path(name).name != name:
        raise ConfigError(
            "rule.module_not_listed",
            f"The module '{name[:60]}' is not in {VARIABLE}, so its functions are not run.",
            f"The operator of this machine can add it: {VARIABLE}={name[:60]}.",
        )
    path = Path(os.environ.get("MLXP_HOME") or _HOME) / FOLDER / name
    try:
        about = path.lstat()
    except OSError:
        about = None
    if about is None or not stat.S_ISREG(about.st_mode):
        raise ConfigError(
            "rule.module_missing",
            f"There is no file {name} in the folder {FOLDER} of the data folder.",
            "Put it there; links are not followed.",
        )
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            "rule.module_writable",
            f"Others than its owner may change {name}, so its functions are not run.",
            f"Take the right away: chmod go-w {name}.",
        )
    return path
