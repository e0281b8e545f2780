"""The questions ``fit`` and ``machine``: which of several trainings fits first, and what this machine computes on."""

from __future__ import annotations

from typing import Any

from training.engine.commands.memory_question import lengths_of, longest_rows, plan_of
from training.engine.config.imports import FitConfig, MachineConfig
from training.engine.config.training import TrainConfig, check
from training.engine.machine import device
from training.engine.report import Reporter


def run(config: FitConfig, _say: Reporter) -> dict[str, Any]:
    """``{"tried": [{"total", "limit", "fits"}, …]}`` in bytes, one for each training up to the first that fits."""
    tried: list[dict[str, Any]] = []
    for raw in config.trainings:
        training = check(TrainConfig, raw)
        machine = device.set_up(training.seed, training.kernel_cache)
        plan = plan_of(training, machine, lengths_of(training, longest_rows(training)))
        tried.append({"total": plan.total, "limit": plan.limit, "fits": plan.fits})
        if plan.fits:
            break
    return {"tried": tried}


def machine(_config: MachineConfig, _say: Reporter) -> dict[str, Any]:
    """The device, as in the journal, and ``limit``: bytes that a training may hold now."""
    found = device.set_up(0)
    return {**found.as_dict(), "limit": device.limit(found)}
