"""Figures of what a step made, by the names that conditions use."""

from __future__ import annotations

import math
from typing import Any

from registry.models import ModelVersion


def plain(values: Any) -> dict[str, float]:
    """The finite numbers in ``values``."""
    if not isinstance(values, dict):
        return {}
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def of_version(version: ModelVersion) -> dict[str, float]:
    """Final figures of the training that made ``version``."""
    return plain(version.metrics)
