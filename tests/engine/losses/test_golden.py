"""Losses beside what TRL and PyTorch made of the same arrays (`make parity WRITE=1` wrote it down)."""

from __future__ import annotations

from dataclasses import replace

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


#: But for z-loss, which is there to see the constant.
OF_LOGITS = [
    (case, made)
    for case, made in LOSSES
    if {"logits", "student"} & case.arrays.keys() and not case.settings.get("z_loss")
]


@pytest.mark.parametrize(("case", "made"), OF_LOGITS, ids=[case.name for case, _ in OF_LOGITS])
def test_a_constant_on_all_logits_changes_nothing(case: Case, made: golden.Made) -> None:
    shifted = {name: array + 8 if name in ("logits", "student") else array for name, array in case.arrays.items()}
    values, gradients = ours.run(replace(case, arrays=shifted))
    assert largest(values, made[0]) <= TOLERANCE
    assert largest(gradients, made[1]) <= TOLERANCE


def test_every_loss_is_kept() -> None:
    assert {case.function for case, _ in LOSSES} == set(ours.FUNCTIONS)
