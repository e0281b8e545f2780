"""Puts a measured section into docs/benchmarks.md, between two markers."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def replace(text: str, section: str, body: str) -> str:
    """``text`` with what stands between the markers of ``section`` replaced. Raises ValueError without markers."""
    begin, end = f"<!-- {section} begins -->", f"<!-- {section} ends -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the page has no section '{section}' between '{begin}' and '{end}'")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{body.strip()}\n{end}{rest.partition(end)[2]}"


def write(section: str, body: str, page: Path = PAGE) -> None:
    """Do it in the file."""
    page.write_text(replace(page.read_text(encoding="utf-8"), section, body), encoding="utf-8")


def heading(command: str, device: str = "") -> str:
    """Command, date, machine and versions, in one sentence."""
    packages = ("mlx", "mlx-lm", "torch", "transformers", "peft")
    versions = ", ".join(f"{name} {found}" for name in packages if (found := _version(name)))
    memory = psutil.virtual_memory().total / (1 << 30)
    machine = device or f"{_cores()} cores of {_processor()}, {memory:.0f} GiB"
    today = datetime.datetime.now(datetime.UTC).date()
    return f"`{command}`, {today}: {machine}, {platform.system()}, Python {platform.python_version()}, {versions}."


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()  # not Linux
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
