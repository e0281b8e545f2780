"""A model with its adapters in its weights computes what the model with adapter layers does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from tests.fakes import tiny
from training.engine.catalog.adapters import Dora, Full, Lora
from training.engine.errors import ModelError
from training.engine.folders import places
from training.engine.folders.places import Place
from training.engine.machine.device import Device
from training.engine.models import loading
from training.engine.models.mlx_models import architecture
from training.engine.tuning import adapters, fuse

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
GPU_RULES = Device("metal", "test", 1 << 30, "", 1, False)  # the base stays quantised; computed on any machine
IDS = mx.array([[5, 260, 17, 99, 3, 250, 40]])
MOE = {
    "model_type": "qwen3_moe", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
    "vocab_size": 64, "tie_word_embeddings": True, "max_position_embeddings": 128, "num_experts": 4,
    "num_experts_per_tok": 2, "decoder_sparse_step": 1, "mlp_only_layers": [], "moe_intermediate_size": 32,
    "norm_topk_prob": True,
}  # fmt: skip


def trained(model: nn.Module, settings: Any, folder: Path, **more: mx.array) -> nn.Module:
    """``model`` with an adapter whose every array was moved, written into ``folder`` as a training does."""
    adapters.apply(model, settings)
    key = mx.random.key(7)
    moved = {}
    for name, value in adapters.trained_weights(model).items():
        key, now = mx.random.split(key)
        size = 1.0 if name.endswith(".m") else 0.3
        moved[name] = value * (1 + 0.1 * size * mx.random.normal(value.shape, key=now)) + (
            0 if name.endswith(".m") else 0.1 * mx.random.normal(value.shape, key=now)
        )
    model.load_weights(list(moved.items()), strict=False)
    write(folder, adapters.describe(settings), **moved, **more)
    model.eval()
    return model


def write(folder: Path, config: dict[str, Any], **arrays: mx.array) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / places.WEIGHTS), arrays)
    (folder / places.CONFIG).write_text(json.dumps(config))
    return folder


def moe() -> nn.Module:
    mx.random.seed(3)
    kind, args = architecture(MOE)
    model: nn.Module = kind(args.from_dict(MOE))
    mx.eval(model.parameters())
    return model


@pytest.mark.parametrize("settings", [Lora(rank=4, scale=3.0), Dora(rank=4), Full(num_layers=1)], ids=lambda s: s.name)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_the_same_logits_as_with_layers(settings: Any, family: str, tmp_path: Path) -> None:
    base = tiny.make(tmp_path / "m", family=family)
    with_layers = trained(loading.load(base, "auto", CPU).model, settings, tmp_path / "a")
    placed = fuse.load_place(Place(model=base, adapter=tmp_path / "a"), "auto", CPU)
    assert placed.extras == {}
    assert not any("lora_" in name for name, _ in tree_flatten(placed.loaded.model.parameters()))
    assert mx.allclose(placed.loaded.model(IDS), with_layers(IDS), rtol=1e-5, atol=1e-5)
    assert not mx.allclose(loading.load(base, "auto", CPU).model(IDS), with_layers(IDS), atol=1e-2)


def test_experts_too(tmp_path: Path) -> None:
    with_layers = trained(moe(), Lora(rank=4, scale=3.0), tmp_path / "a")
    plain = moe()
    assert fuse.fuse(plain, tmp_path / "a") == {}
    ids = IDS % 64
    assert mx.allclose(plain(ids), with_layers(ids), rtol=1e-5, atol=1e-5)
    assert not mx.allclose(moe()(ids), with_layers(ids), atol=1e-3)


def test_an_embedding_that_is_the_head_too(tiny_llama: Path, tmp_path: Path) -> None:
    model = loading.load(tiny_llama, "auto", CPU).model
    weight = model.model.embed_tokens.weight
    a, b = mx.random.normal((weight.shape[0], 2)), mx.random.normal((2, weight.shape[1]))
    config = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": {"rank": 2, "scale": 0.5, "dropout": 0}}
    name = "model.embed_tokens"
    fuse.fuse(model, write(tmp_path / "a", config, **{f"{name}.lora_a": a, f"{name}.lora_b": b}))
    assert mx.allclose(model.model.embed_tokens.weight, weight + 0.5 * (a @ b), atol=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("settings", [Lora(rank=4, scale=3.0), Dora(rank=4)], ids=lambda s: s.name)
def test_packed_layers_are_unpacked(settings: Any, bits: int, tmp_path: Path) -> None:
    base = tiny.make(tmp_path / "m", bits=bits)
    with_layers = trained(loading.load(base, "auto", GPU_RULES).model, settings, tmp_path / "a")
    placed = fuse.load_place(Place(model=base, adapter=tmp_path / "a"), "auto", GPU_RULES)
    assert mx.allclose(placed.loaded.model(IDS), with_layers(IDS), rtol=1e-4, atol=1e-3)
    assert placed.loaded.quantized  # the embedding has no adapter and stays packed


def test_heads_come_back_apart(tiny_llama: Path, tmp_path: Path) -> None:
    head = mx.ones((1, 64))
    trained(loading.load(tiny_llama, "auto", CPU).model, Lora(rank=2), tmp_path / "a", **{"score.weight": head})
    placed = fuse.load_place(Place(model=tiny_llama, adapter=tmp_path / "a"), "auto", CPU)
    assert placed.extras.keys() == {"score.weight"}
    assert mx.array_equal(placed.extras["score.weight"], head)


def test_adapters_on_top_of_others_go_in_one_after_the_other(tiny_llama: Path, tmp_path: Path) -> None:
    trained(loading.load(tiny_llama, "auto", CPU).model, Lora(rank=2), tmp_path / "one")
    second = fuse.load_place(Place(model=tiny_llama, adapter=tmp_path / "one"), "auto", CPU).loaded.model
    trained(second, Dora(rank=2), tmp_path / "two")
    config = places.put_before(tmp_path / "two", adapters.describe(Dora(rank=2)), tmp_path / "one")
    (tmp_path / "two" / places.CONFIG).write_text(json.dumps(config))
    third = fuse.load_place(Place(model=tiny_llama, adapter=tmp_path / "two"), "auto", CPU).loaded.model
    assert mx.allclose(third(IDS), second(IDS), rtol=1e-5, atol=1e-5)
    trained(third, Lora(rank=3), tmp_path / "three")
    config = places.put_before(tmp_path / "three", adapters.describe(Lora(rank=3)), tmp_path / "two")
    (tmp_path / "three" / places.CONFIG).write_text(json.dumps(config))
    fourth = fuse.load_place(Place(model=tiny_llama, adapter=tmp_path / "three"), "auto", CPU).loaded.model
    assert mx.allclose(fourth(IDS), third(IDS), rtol=1e-5, atol=1e-5)


def test_a_missing_part_of_a_chain_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        trained(loading.load(tiny_llama, "auto", CPU).model, Lora(rank=2), tmp_path / name)
    config = places.put_before(tmp_path / "two", adapters.describe(Lora(rank=2)), tmp_path / "one")
    (tmp_path / "two" / places.CONFIG).write_text(json.dumps(config))
    (tmp_path / "two" / "before.1.safetensors").unlink()
    assert code_of(tiny_llama, tmp_path / "two") == "adapter.incomplete"


@pytest.mark.parametrize(
    ("names", "shape", "code"),
    [
        (("model.layers.7.mlp.up_proj.lora_a", "model.layers.7.mlp.up_proj.lora_b"), (64, 2), "adapter.other_model"),
        (("model.layers.0.mlp.up_proj.lora_a", "model.layers.0.mlp.up_proj.lora_b"), (5, 5), "adapter.other_shape"),
        (("model.layers.0.mlp.up_proj.lora_a",), (64, 2), "adapter.config_broken"),
        (("model.layers.0.mlp.up_proj.weight",), (64, 2), "adapter.other_shape"),
        (("model.layers.0.mlp.up_proj.colour",), (64, 2), "adapter.other_model"),
        (("lm_head.weight",), (64, 2), "adapter.other_model"),
    ],
)
def test_what_does_not_fit_has_a_name(
    names: tuple[str, ...], shape: tuple[int, int], code: str, tiny_llama: Path, tmp_path: Path
) -> None:
    config = adapters.describe(Lora(rank=2))
    write(tmp_path / "a", config, **{name: mx.zeros(shape) for name in names})
    assert code_of(tiny_llama, tmp_path / "a") == code


@pytest.mark.parametrize(
    "config",
    [
        {"fine_tune_type": "lora"},
        {"fine_tune_type": "prefix", "lora_parameters": {"scale": 1.0}},
        {"lora_parameters": {"scale": math.inf}},
        {"on_top_of": []},
        {"on_top_of": ["x"] * 1000, "adapter": {}},
    ],
)
def test_a_broken_description_has_a_name(config: dict[str, Any], tiny_llama: Path, tmp_path: Path) -> None:
    assert code_of(tiny_llama, write(tmp_path / "a", config, x=mx.zeros(1))) == "adapter.config_broken"


def test_another_base_is_refused_when_the_adapter_knows_its_own(tiny_llama: Path, tmp_path: Path) -> None:
    config = adapters.describe(Lora(rank=2)) | {"base_weights": places.weights_digest(tiny_llama)}
    folder = write(tmp_path / "a", config, x=mx.zeros(1))
    assert fuse.load_place(Place(model=tiny_llama, adapter=folder), "auto", CPU).extras.keys() == {"x"}
    other = tiny.make(tmp_path / "other", seed=1)
    assert code_of(other, folder) == "adapter.other_model"


def test_a_folder_without_an_adapter_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    assert code_of(tiny_llama, tmp_path) == "adapter.missing"


def code_of(model: Path, adapter: Path) -> str:
    with pytest.raises(ModelError) as refused:
        fuse.load_place(Place(model=model, adapter=adapter), "auto", CPU)
    return refused.value.code
