"""What is trained and what is not, and that stock mlx-lm opens it to the same model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from tests.engine import runs
from tests.engine.tuning.test_fuse import moe
from tests.fakes import tiny
from training.engine.catalog.adapters import Dora, Full, Lora
from training.engine.errors import ConfigError, Exit
from training.engine.folders import places
from training.engine.folders.places import Place
from training.engine.loop import checkpoint
from training.engine.machine.device import Device
from training.engine.models import loading
from training.engine.tuning import adapters, fuse

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
GPU_RULES = Device("metal", "test", 1 << 30, "", 1, False)  # the base stays quantised; computed on any machine
IDS = mx.array([[5, 260, 17, 99, 3, 250, 40]])


def adapted(folder: Path, settings: Any, device: Device = CPU) -> nn.Module:
    loaded = loading.load(folder, "auto", device)
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
    model = loading.load(tiny_llama, "auto", CPU).model
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
    for name, value in tree_flatten(loading.load(tiny_llama, "auto", CPU).model.parameters()):
        assert mx.array_equal(base[name], value)
    assert all("lora_" in name for name in names(model))


@pytest.mark.parametrize("settings", [Lora(rank=2), Dora(rank=2)])
def test_an_untrained_adapter_changes_nothing(settings: Any, tiny_llama: Path) -> None:
    model = adapted(tiny_llama, settings)
    assert mx.allclose(model(IDS), loading.load(tiny_llama, "auto", CPU).model(IDS), atol=1e-5)


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


BITS = [2, 3, 4, 5, 6, 8]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", [Lora, Dora])
def test_on_packed_layers_as_on_unpacked_ones(kind: Any, bits: int, tmp_path: Path) -> None:
    """Forward, fused and one gradient, packed against unpacked, for every width that MLX packs."""
    folder = tiny.make(tmp_path / "m", bits=bits)
    found = []
    for device in (GPU_RULES, CPU):
        mx.random.seed(1)
        model = adapted(folder, kind(rank=2, alpha=8), device)
        model.load_weights([(k, v + 0.1) for k, v in adapters.trained_weights(model).items()], strict=False)
        loss, gradients = nn.value_and_grad(model, lambda ids, m=model: m(ids).square().mean())(IDS)
        found.append((model, loss, dict(tree_flatten(gradients))))
    (packed, loss, gradients), (plain, expected, wanted) = found
    assert any(isinstance(m, nn.QuantizedLinear) for m in packed.modules())
    assert abs(loss - expected).item() < 1e-4 * abs(expected).item()
    for name, gradient in gradients.items():
        assert mx.max(mx.abs(gradient - wanted[name])) <= 1e-3 * mx.max(mx.abs(wanted[name])) + 1e-6, name
    mx.save_safetensors(str(tmp_path / adapters.WEIGHTS), adapters.trained_weights(packed))
    (tmp_path / adapters.CONFIG).write_text(json.dumps(adapters.describe(kind(rank=2, alpha=8))))
    fused = fuse.load_place(Place(model=folder, adapter=tmp_path), "auto", CPU).loaded.model
    assert mx.allclose(fused(IDS), plain(IDS), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_trains_on_every_width(kind: str, bits: int, tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "m", bits=bits)
    adapter = {"name": kind, "rank": 4}
    config = runs.request(folder, runs.data(tmp_path / "d"), adapter=adapter, iters=4, learning_rate=1e-2)
    assert runs.run(tmp_path / "run", config) == Exit.FINISHED
    losses = runs.points(tmp_path / "run")
    assert losses[4] < losses[1]


PATTERNS = {
    "rank": 4, "alpha": 8, "use_rslora": True, "rank_pattern": {"self_attn.q_proj": 8, "layers.1.mlp.up_proj": 2},
    "alpha_pattern": {"v_proj": 32},
}  # fmt: skip


def test_rslora_and_patterns_multiply_as_peft_does(tiny_llama: Path) -> None:
    settings = Lora(**PATTERNS)
    assert settings.alpha == 8
    model = adapted(tiny_llama, settings)
    at = dict(model.named_modules())
    expected = {"self_attn.q_proj": (8, 8 / 8**0.5), "self_attn.v_proj": (4, 32 / 2), "mlp.up_proj": (2, 8 / 2**0.5)}
    for name, (rank, scale) in expected.items():
        layer = at[f"model.layers.1.{name}"]
        assert (layer.lora_a.shape[1], layer.scale) == (rank, pytest.approx(scale))
    assert at["model.layers.0.mlp.up_proj"].scale == pytest.approx(4.0)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_stock_mlx_lm_opens_patterns_to_the_same_logits(kind: str, tiny_llama: Path, tmp_path: Path) -> None:
    settings = {"name": kind, **PATTERNS}
    config = runs.request(tiny_llama, runs.data(tmp_path / "d"), adapter=settings, iters=4, learning_rate=1e-2)
    config["save_every"] = 2
    assert runs.run(tmp_path / "run", config) == Exit.FINISHED
    checkpoint = tmp_path / "run" / "checkpoints" / "0000004"
    stock = mlx_lm.load(str(tiny_llama), adapter_path=str(checkpoint))[0](IDS)
    own = adapted(tiny_llama, {"lora": Lora, "dora": Dora}[kind](**PATTERNS))
    own.load_weights(str(checkpoint / "trained.safetensors"), strict=False)
    own.eval()
    assert mx.allclose(own(IDS), stock, rtol=1e-5, atol=1e-5)
    assert not mx.allclose(stock, mlx_lm.load(str(tiny_llama))[0](IDS), atol=1e-2)
    # And goes on from it bit for bit.
    assert runs.run(tmp_path / "two", config, halt=(2, 0)) == Exit.STOPPED
    assert runs.run(tmp_path / "two", config) == Exit.FINISHED
    runs.assert_same(tmp_path / "run", tmp_path / "two", 4)


def test_experts_take_patterns_too(tmp_path: Path) -> None:
    settings = Lora(rank=4, alpha=8, rank_pattern={"up_proj": 8}, alpha_pattern={"down_proj": 2})
    model = moe()
    adapters.apply(model, settings)
    model.load_weights([(k, v + 0.1) for k, v in adapters.trained_weights(model).items()], strict=False)
    config = adapters.describe(settings)
    mx.save_safetensors(str(tmp_path / adapters.WEIGHTS), adapters.stock_form(adapters.trained_weights(model), config))
    (tmp_path / adapters.CONFIG).write_text(json.dumps(config))
    fused = moe()
    fuse.fuse(fused, tmp_path)
    ids = IDS % 64
    assert mx.allclose(fused(ids), model(ids), rtol=1e-4, atol=1e-4)


def test_patterns_may_be_lines() -> None:
    settings = Lora(rank_pattern=["self_attn.q_proj = 32"], alpha_pattern=["v_proj=6.5"])
    assert (settings.rank_pattern, settings.alpha_pattern) == ({"self_attn.q_proj": 32}, {"v_proj": 6.5})
    for wrong in (["q_proj"], ["q_proj=0"], ["q_proj=x"], ["q proj=3"], [3]):
        with pytest.raises(ValueError, match="rank_pattern"):
            Lora(rank_pattern=wrong)


def test_a_pattern_without_a_module_is_a_slip(tiny_llama: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        adapted(tiny_llama, Lora(rank_pattern={"q_proj": 8, "qq": 4}, alpha_pattern={"proj": 4}))
    assert [p.loc for p in refused.value.problems] == [
        ("adapter", "rank_pattern", "qq"),
        ("adapter", "alpha_pattern", "proj"),
    ]


def test_training_starts_from_an_adapter_and_stock_mlx_lm_refuses_half_of_it(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.data(tmp_path / "d")
    first = runs.request(tiny_llama, data, iters=3, learning_rate=1e-2, adapter={"rank": 4})
    assert runs.run(tmp_path / "one", first) == Exit.FINISHED
    start = tmp_path / "one" / "checkpoints" / "0000003"
    second = first | {"adapter_path": str(start), "learning_rate": 1e-12, "adapter": {"name": "dora", "rank": 2}}
    assert runs.run(tmp_path / "two", second) == Exit.FINISHED
    made = tmp_path / "two" / "checkpoints" / "0000003"
    assert runs.points(tmp_path / "two")[1] < runs.points(tmp_path / "one")[1]
    one, two = (
        fuse.load_place(Place(model=tiny_llama, adapter=folder), "auto", CPU).loaded.model(IDS)
        for folder in (start, made)
    )
    assert mx.allclose(one, two, atol=1e-4)  # nothing was learnt at that rate
    assert checkpoint.fault_of(made) is None
    landed = tmp_path / "landed"  # as the platform takes it out of the checkpoint
    landed.mkdir()
    for file in places.files(made):
        shutil.copy(file, landed)
    shutil.rmtree(tmp_path / "one")
    moved = fuse.load_place(Place(model=tiny_llama, adapter=landed), "auto", CPU).loaded.model
    assert mx.array_equal(moved(IDS), two)
    with pytest.raises(AttributeError, match="num_layers"):
        mlx_lm.load(str(tiny_llama), adapter_path=str(made))
