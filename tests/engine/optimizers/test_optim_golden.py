"""Optimizers and schedules beside what PyTorch and transformers made of them (`make parity WRITE=1` wrote it down)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.engine.optimizer_cases import course
from tests.parity import optimizer_cases as cases
from training.engine.catalog.schedules import SCHEDULES

OPTIMIZERS, CURVES = cases.read("optimizers"), cases.read("schedules")


@pytest.mark.parametrize("row", OPTIMIZERS, ids=lambda row: f"{row['settings']['name']}-{len(row['settings'])}")
def test_ten_updates_are_those_kept(row: dict[str, Any]) -> None:
    start, gradients = cases.tensors(tall=row["tall"])
    made = course(row["settings"], start, list(gradients), cases.rate_of(row["settings"]))
    kept = np.array(row["weights"]).reshape(len(gradients), *start.shape)
    assert np.abs(np.array(made) - kept).max() <= 1e-6


@pytest.mark.parametrize("row", CURVES, ids=lambda row: f"{row['settings']['name']}-{len(row['settings'])}")
def test_a_schedule_is_the_one_kept(row: dict[str, Any]) -> None:
    settings: Any = SCHEDULES[row["settings"]["name"]].settings(**row["settings"])
    made = [settings.multiplier(update, row["total"]) for update in range(row["total"])]
    assert made[-len(row["factors"]) :] == pytest.approx(row["factors"], abs=1e-9)


def test_every_case_is_kept() -> None:
    assert [row["settings"] for row in OPTIMIZERS if not row["tall"]] == cases.OPTIMIZERS
    assert [(row["settings"], row["total"]) for row in CURVES] == cases.SCHEDULES


def test_every_schedule_has_a_case() -> None:
    assert {settings["name"] for settings, _ in cases.SCHEDULES} == set(SCHEDULES.names)
