"""Optimizers over ten updates and schedules update by update beside PyTorch's and transformers'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.engine.optimizer_cases import course
from tests.parity import optimizer_cases as cases
from tests.parity import optimizers_theirs as theirs
from tests.parity.table import Checked
from training.engine.catalog.schedules import SCHEDULES

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("settings", cases.OPTIMIZERS, ids=lambda settings: settings["name"])
def test_ten_updates_agree(settings: cases.Settings, tall: bool, checked: Checked) -> None:
    start, gradients = cases.tensors(tall=tall)
    made = course(settings, start, list(gradients), cases.rate_of(settings))
    error = float(np.abs(np.array(made) - np.array(theirs.trajectory(settings, start, gradients))).max())
    checked(f"`{settings['name']}`, 10 updates", theirs.reference(settings["name"]), None, error)
    assert error <= 1e-6


@pytest.mark.parametrize(("settings", "total"), cases.SCHEDULES, ids=lambda value: str(value)[:40])
def test_every_update_of_a_schedule_agrees(settings: cases.Settings, total: int, checked: Checked) -> None:
    own: Any = SCHEDULES[settings["name"]].settings(**settings)
    start, expected = settings.get("warmup_steps", 0), theirs.factors(settings, total)
    error = max(abs(own.multiplier(n, total) - expected[n]) for n in range(start, total))
    checked(f"`{settings['name']}`", theirs.scheduler_of(settings["name"]), error, None)
    assert error <= 1e-9
