"""How much memory there is for this process, and how much of it is left: of the machine, or of its container."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil

#: Below the larger of the two the kernel may soon end somebody: bytes, and a share of all memory.
LEAST, LEAST_SHARE = 512 << 20, 0.03
_CGROUPS = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes."""

    available: int
    """What can still be taken without swapping."""
    total: int

    @property
    def reserve(self) -> int:
        """Bytes that should stay free."""
        return max(min(LEAST, self.total // 10), int(LEAST_SHARE * self.total))

    @property
    def is_short(self) -> bool:
        return self.available < self.reserve


def room() -> Room:
    """The memory that this process may use. Takes some 50 µs."""
    machine = _machine()
    files = _container(machine.total)
    if files is None:
        return machine
    limit, used = files
    total, taken = _number(limit), _number(used)
    if total is None or taken is None or total >= machine.total:
        return machine
    left = max(0, total - taken + _pages_of_files(used.with_name("memory.stat")))
    return Room(min(machine.available, left), total)


def give_back() -> None:
    """Return memory to the system that the C library keeps for later (see ``allocator.py`` beside it)."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU library's only
    if trim is not None:
        trim(0)


def _machine() -> Room:
    # psutil reads and sorts the whole file, three times as long; its first lines are enough.
    try:
        with open(_MEMINFO, "rb", buffering=0) as file:
            rows = dict(line.split(b":") for line in file.read(200).splitlines()[:3])
        return Room(_kib(rows[b"MemAvailable"]), _kib(rows[b"MemTotal"]))
    except (OSError, KeyError, ValueError):
        memory = psutil.virtual_memory()
        return Room(int(memory.available), int(memory.total))


def _kib(text: bytes) -> int:
    return int(text.split()[0]) << 10


@lru_cache(maxsize=1)
def _container(total: int) -> tuple[Path, Path] | None:
    """Files with the limit and the use of this process's control group, if it has a limit below ``total``."""
    try:
        rows = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for row in rows:
        _, controllers, path = row.split(":", 2)
        below = path.lstrip("/")
        if controllers == "":
            folders, names = [_CGROUPS / below, _CGROUPS], ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            folders = [_CGROUPS / "memory" / below, _CGROUPS / "memory"]
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        for folder in folders:
            limit = _number(folder / names[0])
            if limit is not None and limit < total and os.access(folder / names[1], os.R_OK):
                return folder / names[0], folder / names[1]
    return None


def _number(path: Path) -> int | None:
    """The number in a file; None for "max", or when there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _pages_of_files(path: Path) -> int:
    """Bytes of files that the kernel keeps at hand and counts as used; it drops them first."""
    try:
        rows = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(rows.get("total_inactive_file", rows.get("inactive_file", "0")))
