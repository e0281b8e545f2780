"""What a training is judged by: the loss of the rows put aside, or what its answers to them earn."""

from __future__ import annotations

from typing import Any

from training.engine.catalog.charts import quantity
from training.engine.catalog.methods import METHODS
from training.models import Job


def method_of(job: Job) -> str:
    """The name of a training's method; jobs from before there were several have none, and are of the first."""
    method = job.settings.get("method")
    name = method.get("name") if isinstance(method, dict) else method
    return str(name) if name in METHODS else METHODS.names[0]


def goal_of(job: Job) -> str:
    """The quantity that counts: ``loss``, or one of which more is better. The engine's last word decides."""
    said = job.result.get("goal")
    kind: Any = METHODS[method_of(job)].settings
    return str(said) if isinstance(said, str) and said else str(kind.goal)


def is_better(name: str, value: float, than: float | None) -> bool:
    """Whether a point of the metric ``name`` beats the best one so far."""
    if than is None:
        return True
    return value > than if quantity(name).better == "more" else value < than
