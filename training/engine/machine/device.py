"""Which machine MLX computes on, and how it is set up before anything is computed."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import psutil

from training.engine.machine import blas, memory

Backend = Literal["metal", "cuda", "cpu"]
_CUDNN_ATTENTION = "MLX_CUDA_USE_CUDNN_SDPA"


@dataclass(frozen=True, slots=True)
class Device:
    """The device a run computes on, for the journal and for everything that depends on it."""

    backend: Backend
    name: str
    memory: int  # bytes that the device can use
    blas: str  # "" where the backend brings its own matrix routines
    threads: int
    deterministic: bool  # same input, same machine: the same bits

    @property
    def is_cpu(self) -> bool:
        return self.backend == "cpu"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the journal."""
        return asdict(self)


def detect() -> Device:
    """The device that MLX takes by default on this machine."""
    if mx.metal.is_available():
        backend: Backend = "metal"
    elif mx.default_device().type == mx.DeviceType.gpu and mx.cuda.is_available():
        backend = "cuda"
    else:
        backend = "cpu"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if backend == "cpu":
        threads = int(os.environ.get("OPENBLAS_NUM_THREADS") or cores)
        return Device("cpu", _processor(), psutil.virtual_memory().total, blas.running(), threads, True)
    about = mx.device_info()
    memory = int(about.get("max_recommended_working_set_size") or about.get("total_memory") or about["memory_size"])
    repeats = backend == "cuda" and os.environ.get(_CUDNN_ATTENTION) == "0"
    return Device(backend, str(about.get("device_name", backend)), memory, "", cores, repeats)


def set_up(seed: int, kernel_cache: Path | None = None, *, deterministic: bool = False) -> Device:
    """Prepare MLX for one run and say what it runs on. Call it once, before the first array.

    ``seed``: start of MLX's random stream. ``kernel_cache``: folder where compiled kernels are
    kept from run to run (a GPU needs seconds per shape to compile them). ``deterministic``: on NVIDIA,
    MLX's own attention in place of cuDNN's, whose backward pass sums up in an order of its own each time.
    Measured on an H200: trainings were bit-equal with it and differed without; a third slower.
    """
    if kernel_cache is not None:
        (kernel_cache / "ptx").mkdir(parents=True, exist_ok=True, mode=0o700)
        os.environ.setdefault("MLX_PTX_CACHE_DIR", str(kernel_cache / "ptx"))
    if deterministic:
        os.environ[_CUDNN_ATTENTION] = "0"
    device = detect()
    mx.set_default_device(mx.cpu if device.is_cpu else mx.gpu)
    mx.random.seed(seed)
    if device.is_cpu:
        # Fused kernels would be compiled by the system's C++ compiler, seconds for each new shape,
        # without a gain in the steady state; where there is no compiler they run unfused anyway.
        mx.disable_compile()
    elif device.backend == "metal":
        # Wired memory is not paged out in the middle of a step.
        mx.set_wired_limit(device.memory)
    if not device.is_cpu:
        # Unused buffers are kept for the next step, but not all of the memory that other programs need.
        mx.set_cache_limit(max(1 << 30, device.memory // 4))
    return device


def limit(machine: Device) -> int:
    """Bytes that this process may hold in all, beside what others hold now."""
    room, own = memory.room(), mx.get_active_memory()
    left = room.available - room.reserve + own
    if machine.backend == "metal":
        return min(left, machine.memory)
    if machine.backend == "cuda":
        free = mx.device_info().get("free_memory")
        return int(free) + own if free else machine.memory
    return left


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
