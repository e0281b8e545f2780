"""What a training will hold in memory, as the engine plans it, and whether it may start so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxplatform.core.env import env
from registry.models import ModelVersion
from training import asks, starts
from training.engine import SCHEMA
from training.engine.config.training import TrainSettings
from training.engine.errors import Problem
from training.models import DatasetVersion

FRESH = 30.0  # seconds: what others hold changes
KNOWN = 600.0  # seconds for which an answer that somebody saw may refuse a start
GIB = 1 << 30
Others = Mapping[str, ModelVersion]


def question(
    settings: TrainSettings, model: ModelVersion, data: DatasetVersion, others: Others | None = None
) -> dict[str, Any]:
    """The ``config.json`` of the training, as the engine is asked about it. ``others``: further models by role."""
    places = {role: starts.place(version).model_dump(mode="json") for role, version in (others or {}).items()}
    return {
        **settings.model_dump(mode="json"),
        "schema": SCHEMA,
        **starts.folders(model),
        "data": str(data.folder),
        "data_format": data.data_format,
        "kernel_cache": str(env().folder("cache") / "kernels"),
        **({"others": places} if places else {}),
    }


def ask(
    settings: TrainSettings,
    model: ModelVersion,
    data: DatasetVersion,
    *,
    measure: bool = False,
    others: Others | None = None,
) -> dict[str, Any]:
    """The plan: ``lines``, ``total``, ``limit``, ``fits``, ``calibration``, ``suggestions``; bytes.

    ``measure``: compute one update in a process of its own, and give the ``measured`` peak and the plan's ``error``.
    Raises Invalid, TooMuch, AskFailed.
    """
    asked = {"training": question(settings, model, data, others)}
    if measure:
        return asks.ask("memory", {**asked, "measure": True}, fresh=FRESH, memory=None)
    return asks.ask("memory", asked, fresh=FRESH)


def problems(
    settings: TrainSettings, model: ModelVersion, data: DatasetVersion, others: Others | None = None
) -> list[Problem]:
    """Why this training should not start, as far as its plan was asked for in the last minutes; nothing otherwise.

    Only what is known already: a start does not wait for the engine.
    """
    known = asks.kept("memory", {"training": question(settings, model, data, others)}, fresh=KNOWN)
    if known is None or known["fits"]:
        return []
    first = next((s["label"] for s in known["suggestions"] if s["fits"]), "")
    needed, free = known["total"] / GIB, known["limit"] / GIB
    return [
        Problem(
            ("force_memory",),
            "memory.does_not_fit",
            f"It would need about {needed:.2f} GiB of memory, and {free:.2f} GiB are free.",
            f"{first}. Or start it all the same with force_memory." if first else "Start it with force_memory to try.",
        )
    ]
