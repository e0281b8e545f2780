"""Whether a worker runs: it holds a lock in the data folder for as long as it lives, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings

from training.engine.run.rundir import hold, is_held


def _path() -> Path:
    return Path(settings.HOME) / "worker.lock"


def sign_on() -> int | None:
    """Say that this process is a worker; the descriptor is closed by :func:`sign_off` or with the process."""
    return hold(_path())


def sign_off(descriptor: int | None) -> None:
    """This process works no more."""
    if descriptor is not None:
        os.close(descriptor)


def worker_is_alive() -> bool:
    """Whether some process of this machine is a worker of this data folder."""
    return is_held(_path())
