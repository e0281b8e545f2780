"""The model before the training, whatever is trained: the same bits, and afterwards itself again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from training.engine.catalog.adapters import Dora, Full, Lora
from training.engine.learning.reference import Reference
from training.engine.machine.device import Device
from training.engine.models import loading, scalar_heads
from training.engine.tuning import adapters

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
IDS = mx.array([[5, 260, 17, 99, 3]])
KINDS = [Lora(rank=2), Dora(rank=2), Full(), Full(num_layers=1)]


@pytest.mark.parametrize("settings", KINDS, ids=lambda s: s.name)
@pytest.mark.parametrize("with_head", [False, True])
def test_it_is_the_model_as_it_was(settings: Any, with_head: bool, tiny_llama: Path) -> None:
    model = loading.load(tiny_llama, "auto", CPU).model
    before = model(IDS)
    adapters.apply(model, settings)
    if with_head:
        scalar_heads.put(model, scalar_heads.VALUE)
    reference = Reference(model)
    model.update(tree_unflatten([(k, v + 0.1) for k, v in tree_flatten(model.trainable_parameters())]))
    now = model(IDS)
    with reference.inside():
        assert mx.array_equal(model(IDS), before)
    assert mx.array_equal(model(IDS), now)
    assert not mx.allclose(now, before, atol=1e-2)
    trained = sum(v.nbytes for k, v in tree_flatten(model.trainable_parameters()) if not k.startswith("value_head"))
    assert reference.bytes == (trained if settings.name == "full" else 0)


def test_it_is_itself_again_after_an_error(tiny_llama: Path) -> None:
    model = loading.load(tiny_llama, "auto", CPU).model
    adapters.apply(model, Full())
    reference = Reference(model)
    model.update(tree_unflatten([(k, v + 0.1) for k, v in tree_flatten(model.trainable_parameters())]))
    now = model(IDS)
    with pytest.raises(KeyError), reference.inside():
        raise KeyError
    assert mx.array_equal(model(IDS), now)
