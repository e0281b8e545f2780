"""Losses beside what TRL and PyTorch made of the same arrays (`make parity WRITE=1` wrote it down)."""

from __future__ import annotations

import pytest

from tests.parity import golden, ours
from tests.parity.cases import Case
from tests.parity.compare import TOLERANCE, largest

LOSSES = golden.read("losses")


@pytest.mark.parametrize(("case", "made"), LOSSES, ids=[case.name for case, _ in LOSSES])
def test_a_loss_and_its_gradient_are_those_kept(case: Case, made: golden.Made) -> None:
    values, gradients = ours.run(case)
    assert largest(values, made[0]) <= TOLERANCE
    assert largest(gradients, made[1]) <= TOLERANCE


def test_every_loss_is_kept() -> None:
    assert {case.function for case, _ in LOSSES} == set(ours.FUNCTIONS)
