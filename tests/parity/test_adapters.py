"""Adapters beside PEFT's: outputs, merged weights and gradients, on small linear layers."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.engine.tuning.test_peft import Model, array, arrays, base_of, folder_of, layers_of, turned
from tests.parity.cases import Array
from tests.parity.compare import TOLERANCE, largest
from tests.parity.make_adapters import CASES, made
from tests.parity.table import Checked
from training.engine.tuning import fuse, peft

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", list(CASES))
def test_outputs_merged_weights_and_gradients_agree(name: str, checked: Checked, tmp_path: Path) -> None:
    row = made(name, CASES[name])
    folder = folder_of(tmp_path / "a", row["config"], arrays(row["adapter"]))
    peft.convert(folder)
    fused = base_of(row)
    fuse.fuse(fused, folder)
    output, gradients = layers_of(row)
    values = {"output": output, "fused": fused(array(row["x"])), **fused_weights(fused)}
    theirs = {"output": array(row["output"]), "fused": array(row["output"]), **arrays(row["merged"])}
    apart = largest(plain(values), plain(theirs)), largest(plain(gradients), plain(turned(row["gradients"])))
    checked(f"adapter: {name}", "PEFT", *apart)
    assert max(apart) <= TOLERANCE


def fused_weights(model: Model) -> dict[str, mx.array]:
    attention = model.model.layers[0].self_attn
    at = "model.layers.0.self_attn"
    named = {"q_proj.weight": attention.q_proj.weight, "q_proj.bias": attention.q_proj.bias}
    return {f"{at}.{name}": value for name, value in {**named, "v_proj.weight": attention.v_proj.weight}.items()}


def plain(some: dict[str, mx.array]) -> dict[str, Array]:
    return {name: np.array(value) for name, value in some.items()}
