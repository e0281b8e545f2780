"""Every loss and its gradient beside TRL's and PyTorch's, on random small tensors."""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity import ours, theirs
from tests.parity.cases import Case, all_cases
from tests.parity.compare import TOLERANCE, largest
from tests.parity.table import Checked

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("case", list(all_cases()), ids=lambda case: case.name)
def test_values_and_gradients_agree(case: Case, checked: Checked) -> None:
    (values, gradients), (other, others) = ours.run(case), theirs.run(case)
    assert all(np.abs(gradient).max() > 1e-3 for gradient in others.values()), "the case shows nothing"
    apart = largest(values, other), largest(gradients, others) if others else None
    checked(f"`{case.function}`", theirs.REFERENCES[case.function], *apart)
    assert apart[0] <= TOLERANCE
    assert apart[1] is None or apart[1] <= TOLERANCE
