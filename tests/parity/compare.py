"""How far two results are apart."""

from __future__ import annotations

import numpy as np

from tests.parity.cases import Array

#: Largest error that float32 may make here, of values up to 1; of larger ones, relative to the largest.
TOLERANCE = 1e-5


def error(own: Array, other: Array) -> float:
    """Largest difference, divided by the largest number of ``other`` if that is above 1. NaN if there is one."""
    own, other = np.asarray(own, dtype=np.float64), np.asarray(other, dtype=np.float64)
    assert own.shape == other.shape
    return float(np.max(np.abs(own - other), initial=0.0) / max(1.0, np.max(np.abs(other), initial=0.0)))


def largest(own: dict[str, Array], other: dict[str, Array]) -> float:
    """Over all that ``other`` has."""
    return max((error(own[name], array) for name, array in other.items()), default=0.0)
