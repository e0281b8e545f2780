"""Whether the machine ran out of memory: the kernel's count of kills, and samples of what was free."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
LOW = 0.05  # share of the memory


@lru_cache(maxsize=1)
def _counter() -> Path | None:
    """The file in which this process's control group counts memory kills (Linux, version 2 or 1)."""
    try:
        rows = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for row in rows:
        _, controllers, path = row.split(":", 2)
        if controllers == "":
            candidates = [CGROUPS / path.lstrip("/") / "memory.events", CGROUPS / "memory.events"]
        elif "memory" in controllers.split(","):
            candidates = [
                CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control",
                CGROUPS / "memory/memory.oom_control",
            ]
        else:
            continue
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    return None


def kills() -> int | None:
    """Processes the kernel killed for memory in our control group; None where nobody counts."""
    counter = _counter()
    if counter is None:
        return None
    try:
        match = re.search(r"^oom_kill (\d+)$", counter.read_text(), flags=re.M)
    except OSError:
        return None
    return int(match.group(1)) if match else None


def is_low() -> bool:
    """Whether less than 5 % of the memory is free right now."""
    memory = psutil.virtual_memory()
    return bool(memory.available < LOW * memory.total)


class Watch:
    """Remembers, over the life of one engine, the signs of a death by memory."""

    def __init__(self) -> None:
        self._kills = kills()
        self._low = False

    def sample(self) -> None:
        """Look once; call it about every second."""
        self._low = is_low()

    def killed(self) -> bool:
        """Whether the engine, found dead by SIGKILL, most likely died for memory."""
        now = kills()
        if now is not None and self._kills is not None and now > self._kills:
            return True
        return self._low
