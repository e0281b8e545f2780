"""What is trained and what is not, and that stock mlx-lm opens it to the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from tests.engine import runs
from tests.fakes import tiny
from training.engine import adapters, models
from training.engine.catalog.adapters import Dora, Full, Lora
from training.engine.device import Device
from training.engine.errors import ConfigError, Exit

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
GPU_RULES = Device("metal", "test", 1 << 30, "", 1, False)  # the base stays quantised; computed on any machine
IDS = mx.array([[5, 260, 17, 99, 3, 250, 40]])


def adapted(folder: Path, settings: Any, device: Device = CPU) -> nn.Module:
    loaded = models.load(folder, "auto", device)
    adapters.apply(loaded.model, settings, quantized=bool(loaded.config.get("quantization")))
    return loaded.model


def names(model: nn.Module) -> set[str]:
    return set(adapters.trained_weights(model))


@pytest.mark.parametrize("base", ["tiny_llama", "tiny_quantised", "tiny_qwen3"])
@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_stock_mlx_lm_opens_it_to_the_same_logits(
    kind: str, base: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder, data = request.getfixturevalue(base), runs.data(tmp_path / "data")
    adapter = {"name": kind} if kind == "full" else {"name": kind, "rank": 4, "alpha": 20, "dropout": 0.1}
    config = runs.request(folder, data, adapter=adapter, iters=3, learning_rate=1e-2)
    code = runs.run(tmp_path / "run", config)
    if (kind, base) == ("full", "tiny_quantised"):
        assert (code, runs.last(tmp_path / "run").fields["code"]) == (Exit.CONFIG, "adapter.needs_unquantised")
        return
    assert code == Exit.FINISHED
    checkpoint = tmp_path / "run" / runs.last(tmp_path / "run").fields["result"]["checkpoint"]
    stock = mlx_lm.load(str(folder), adapter_path=str(checkpoint))[0](IDS)
    own = adapted(folder, Full() if kind == "full" else {"lora": Lora, "dora": Dora}[kind](rank=4, scale=5.0))
    own.load_weights(str(checkpoint / adapters.WEIGHTS), strict=False)
    own.eval()
    # Ours computes on the float32 of the quantised numbers, stock on the packed ones: the sums round differently.
    assert mx.allclose(own(IDS), stock, rtol=1e-4, atol=1e-3 if base == "tiny_quantised" else 1e-5)
    assert not mx.allclose(own(IDS), mlx_lm.load(str(folder))[0](IDS), atol=1e-2)  # it did learn something


@pytest.mark.parametrize(("keys", "layers"), [(None, 1), (["self_attn.q_proj", "mlp.up_proj"], -1)])
def test_stock_mlx_lm_takes_keys_and_layers_alike(
    keys: list[str] | None, layers: int, tiny_llama: Path, tmp_path: Path
) -> None:
    adapter = {"name": "lora", "rank": 2, "keys": keys, "num_layers": layers}
    config = runs.request(tiny_llama, runs.data(tmp_path / "data"), adapter=adapter, iters=1)
    assert runs.run(tmp_path / "run", config) == Exit.FINISHED
    stock = mlx_lm.load(str(tiny_llama), adapter_path=str(tmp_path / "run" / "checkpoints" / "0000001"))[0]
    theirs = {name for name, _ in tree_flatten(stock.parameters()) if "lora_" in name}
    assert theirs == set(runs.arrays(tmp_path / "run", 1))


def test_b_moves_at_the_first_step_and_a_at_the_second(tiny_llama: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, runs.data(tmp_path / "data"), iters=2, save_every=1, adapter={"rank": 4})
    config |= {"optimizer": {"name": "sgd", "momentum": 0}, "learning_rate": 0.1}
    assert runs.run(tmp_path / "run", config) == Exit.FINISHED
    one, two = runs.arrays(tmp_path / "run", 1), runs.arrays(tmp_path / "run", 2)
    model = models.load(tiny_llama, "auto", CPU).model
    mx.random.seed(42)
    adapters.apply(model, Lora(rank=4))
    start = adapters.trained_weights(model)
    for name in one:
        moved_at_once = name.endswith("lora_b")
        assert mx.array_equal(start[name], one[name]) != moved_at_once, name
        assert not mx.array_equal(one[name], two[name]), name


def test_the_frozen_base_is_not_touched(tiny_llama: Path) -> None:
    model = adapted(tiny_llama, Lora(rank=2))
    base = {k.replace(".linear.", "."): v for k, v in tree_flatten(model.parameters()) if "lora_" not in k}
    for name, value in tree_flatten(models.load(tiny_llama, "auto", CPU).model.parameters()):
        assert mx.array_equal(base[name], value)
    assert all("lora_" in name for name in names(model))


@pytest.mark.parametrize("settings", [Lora(rank=2), Dora(rank=2)])
def test_an_untrained_adapter_changes_nothing(settings: Any, tiny_llama: Path) -> None:
    model = adapted(tiny_llama, settings)
    assert mx.allclose(model(IDS), models.load(tiny_llama, "auto", CPU).model(IDS), atol=1e-5)


def test_layers_count_from_the_top(tiny_llama: Path) -> None:
    for settings in (Lora(num_layers=1), Dora(num_layers=1), Full(num_layers=1)):
        assert all(name.startswith("model.layers.1.") for name in names(adapted(tiny_llama, settings)))
    both = names(adapted(tiny_llama, Lora(num_layers=50)))
    assert both == names(adapted(tiny_llama, Lora()))


def test_only_the_named_modules_are_adapted(tiny_llama: Path) -> None:
    found = names(adapted(tiny_llama, Lora(keys=["self_attn.v_proj"])))
    assert found == {f"model.layers.{i}.self_attn.v_proj.lora_{x}" for i in (0, 1) for x in "ab"}


def test_an_unknown_module_is_answered_with_the_known_ones(tiny_llama: Path) -> None:
    with pytest.raises(ConfigError, match=r"no module self_attn\.qq") as refused:
        adapted(tiny_llama, Lora(keys=["self_attn.q_proj", "self_attn.qq"]))
    assert "self_attn.q_proj, self_attn.v_proj" in refused.value.hint
    assert ".linear" not in refused.value.hint


@pytest.mark.parametrize("bits", [3, 4, 5, 6, 8])
def test_dora_takes_a_base_of_any_bits(bits: int, tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "m", bits=bits)
    model = adapted(folder, Dora(rank=2), GPU_RULES)
    assert mx.allclose(model(IDS), models.load(folder, "auto", GPU_RULES).model(IDS), atol=1e-3)
    loss, gradients = nn.value_and_grad(model, lambda ids: model(ids).square().sum())(IDS)
    assert all(mx.isfinite(g).all() for _, g in tree_flatten(gradients))
    assert mx.isfinite(loss)


@pytest.mark.parametrize("device", [CPU, GPU_RULES])
def test_full_needs_a_base_that_is_not_quantised(device: Device, tiny_quantised: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        adapted(tiny_quantised, Full(), device)
    assert [p.code for p in refused.value.problems] == ["adapter.needs_unquantised"]


def test_a_folders_description_is_stock_mlx_lms() -> None:
    assert adapters.describe(Full(num_layers=2)) == {"fine_tune_type": "full", "num_layers": 2}
    assert adapters.describe(Dora(rank=4, scale=2.0, keys=["a"])) == {
        "fine_tune_type": "dora",
        "num_layers": -1,
        "lora_parameters": {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["a"]},
    }
