"""With its adapters left out a model is its base, and afterwards itself again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from training.engine.catalog.adapters import Dora, Full, Lora
from training.engine.errors import ConfigError
from training.engine.machine.device import Device
from training.engine.models import loading
from training.engine.models.base_model import without_adapters
from training.engine.models.mlx_models import architecture
from training.engine.models.recompute import recompute_blocks
from training.engine.tuning import adapters

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
GPU_RULES = Device("metal", "test", 1 << 30, "", 1, False)  # the base stays quantised
IDS = mx.array([[5, 260, 17, 99, 3, 250, 40]])
KINDS = [Lora(rank=2), Dora(rank=2, num_layers=1), Lora(rank=2, keys=["mlp.up_proj"])]


def trained(model: nn.Module, settings: Any) -> nn.Module:
    """``model`` with adapters that change what it says."""
    adapters.apply(model, settings)
    model.load_weights([(k, v + 0.1) for k, v in adapters.trained_weights(model).items()], strict=False)
    return model


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize(("base", "device"), [("tiny_llama", CPU), ("tiny_quantised", GPU_RULES)])
@pytest.mark.parametrize("again", [False, True])
def test_it_is_the_base_inside_and_itself_afterwards(
    settings: Any, base: str, device: Device, again: bool, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(base)
    expected = loading.load(folder, "auto", device).model(IDS)
    model = trained(loading.load(folder, "auto", device).model, settings)
    if again:
        recompute_blocks(model)
        model.train()
    own, names = model(IDS), [name for name, _ in tree_flatten(model.parameters())]
    to_train = set(adapters.trained_weights(model))
    with without_adapters(model):
        assert mx.array_equal(model(IDS), expected)
        assert adapters.trained_weights(model) == {}
    assert mx.array_equal(model(IDS), own)
    assert not mx.allclose(own, expected, atol=1e-2)
    assert [name for name, _ in tree_flatten(model.parameters())] == names
    assert set(adapters.trained_weights(model)) == to_train


def test_experts_are_left_out_too() -> None:
    about = {"model_type": "mixtral", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64}
    about |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    kind, args = architecture(about)
    mx.random.seed(1)
    model: nn.Module = kind(args.from_dict(about | {"num_experts_per_tok": 2}))
    ids = mx.array([[3, 9, 27, 1]])
    expected = model(ids)
    trained(model, Lora(rank=2))
    assert any("switch_mlp" in name for name in adapters.trained_weights(model))
    assert not mx.allclose(model(ids), expected, atol=1e-3)
    with without_adapters(model):
        assert mx.array_equal(model(ids), expected)


def test_the_adapters_are_back_after_an_exception(tiny_llama: Path) -> None:
    model = trained(loading.load(tiny_llama, "auto", CPU).model, Lora(rank=2))
    own = model(IDS)
    with pytest.raises(KeyError), without_adapters(model):
        raise KeyError
    assert mx.array_equal(model(IDS), own)


def test_it_costs_no_memory(tiny_llama: Path) -> None:
    model = trained(loading.load(tiny_llama, "auto", CPU).model, Lora(rank=2))
    mx.eval(model.parameters())
    before = mx.get_active_memory()
    with without_adapters(model):
        assert mx.get_active_memory() == before


def test_a_loss_can_compare_with_the_base(tiny_llama: Path) -> None:
    """The gradient is that of the adapted half alone."""
    model = trained(loading.load(tiny_llama, "auto", CPU).model, Lora(rank=2))
    base = loading.load(tiny_llama, "auto", CPU).model(IDS)

    def inside(ids: mx.array) -> mx.array:
        with without_adapters(model):
            reference = model(ids)
        return mx.square(model(ids) - reference).sum()

    value, gradient = nn.value_and_grad(model, inside)(IDS)
    other, expected = nn.value_and_grad(model, lambda ids: mx.square(model(ids) - base).sum())(IDS)
    assert value.item() == other.item()
    flat = dict(tree_flatten(expected))
    assert all(mx.array_equal(g, flat[name]) for name, g in tree_flatten(gradient))


def test_a_base_that_is_trained_is_gone(tiny_llama: Path) -> None:
    model = loading.load(tiny_llama, "auto", CPU).model
    adapters.apply(model, Full(num_layers=1))
    with pytest.raises(ConfigError) as refused, without_adapters(model):
        pass
    assert [p.code for p in refused.value.problems] == ["adapter.no_base"]
