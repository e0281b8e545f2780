"""Adapters on a small model beside PEFT's own: forward, gradients, and the weights they are merged into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from tests.engine.test_peft import arrays, base_of, folder_of, turned
from tests.parity.compare import TOLERANCE, largest
from tests.parity.make_adapters import CASES, made
from tests.parity.table import Checked
from training.engine import adapters, fuse, peft
from training.engine.catalog.adapters import Dora, Lora

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", CASES)
def test_forward_gradients_and_merge_agree(name: str, tmp_path: Path, checked: Checked) -> None:
    row = made(name, CASES[name])
    values, gradients = computed(row)
    wanted = turned(row["gradients"])
    apart = largest(plain(values), plain(arrays({"output": row["output"]})))
    apart = max(apart, largest(plain(fused(row, tmp_path / "adapter")), plain(arrays(row["merged"]))))
    sloped = largest(plain(gradients), plain(wanted))
    checked(f"`{'dora' if 'dora' in name else 'lora'}`, forward and merged", "PEFT", apart, sloped)
    assert gradients.keys() == wanted.keys()
    assert apart <= TOLERANCE
    assert sloped <= TOLERANCE


def plain(some: dict[str, mx.array]) -> dict[str, Any]:
    return {name: np.array(value) for name, value in some.items()}


def computed(row: dict[str, Any]) -> tuple[dict[str, mx.array], dict[str, mx.array]]:
    """The output, and the gradients of its square, of our layers with PEFT's settings and weights."""
    asked = row["config"]
    shared = {name: asked[name] for name in ("use_rslora", "rank_pattern", "alpha_pattern")}
    settings = {"rank": asked["r"], "alpha": asked["lora_alpha"], **shared}
    model = base_of(row)
    adapters.apply(model, Dora(**settings) if asked["use_dora"] else Lora(**settings))
    model.load_weights(list(turned(row["adapter"]).items()), strict=False)
    x = arrays({"x": row["x"]})["x"]
    _, gradients = nn.value_and_grad(model, lambda x: model(x).square().sum())(x)
    return {"output": model(x)}, dict(tree_flatten(gradients))


def fused(row: dict[str, Any], folder: Path) -> dict[str, mx.array]:
    """The weights after PEFT's files were imported and merged."""
    peft.convert(folder_of(folder, row["config"], arrays(row["adapter"])))
    model = base_of(row)
    assert fuse.fuse(model, folder) == {}
    return dict(tree_flatten(model.parameters()))
