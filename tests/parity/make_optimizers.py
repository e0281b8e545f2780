"""Writes ``tests/golden/{optimizers,schedules}.json``: python -m tests.parity.make_optimizers, beside make_losses."""

from __future__ import annotations

from typing import Any

from tests.parity import optimizer_cases as cases
from tests.parity import optimizers_theirs as theirs


def optimizers() -> list[dict[str, Any]]:
    """Weights after each of ten updates; nine digits make a float32 again."""
    rows = []
    for settings in cases.OPTIMIZERS:
        for tall in (False, True) if settings["name"] in ("muon", "adafactor") else (False,):
            course = theirs.trajectory(settings, *cases.tensors(tall=tall))
            plain = [[float(f"{number:.9g}") for number in weights.flatten()] for weights in course]
            rows.append({"settings": settings, "tall": tall, "weights": plain})
    return rows


def schedules() -> list[dict[str, Any]]:
    """Factors on the rate; with a warm-up those after it."""
    rows = []
    for settings, total in cases.SCHEDULES:
        start = settings.get("warmup_steps", 0)
        rows.append({"settings": settings, "total": total, "factors": theirs.factors(settings, total)[start:]})
    return rows


if __name__ == "__main__":
    cases.write("optimizers", optimizers())
    cases.write("schedules", schedules())
