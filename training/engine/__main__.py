"""``python -m training.engine``: take the fast BLAS and the memory settings on board, then run the command line.

The dynamic loader reads its settings at the start of a process only, so the process starts itself
anew, once, with the same pid, before any array library is loaded.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from training.engine.cli import main
from training.engine.machine import allocator, blas

_READY = "MLXP_ENGINE_READY"


def start() -> int:
    """Run the engine, in the environment that this machine computes fastest in."""
    if _READY not in os.environ:
        cache = Path(os.environ.get("MLXP_HOME", "var")).resolve() / "cache"
        if extra := allocator.environment() | blas.environment(cache):
            again = [sys.executable, "-m", "training.engine", *sys.argv[1:]]
            os.execve(sys.executable, again, {**os.environ, **extra, _READY: "1"})  # noqa: S606 - this very program
    return main()


if __name__ == "__main__":
    sys.exit(start())
