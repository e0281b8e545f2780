"""PEFT's adapters: what PEFT computes with them, ours computes too; and there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from mlx import nn

from tests.engine.tuning.test_fuse import IDS, trained, write
from training.engine import cli
from training.engine.catalog.adapters import Dora, Full, Lora
from training.engine.commands import import_model
from training.engine.config.imports import ImportModelConfig
from training.engine.errors import ModelError
from training.engine.folders import places
from training.engine.folders.places import Place
from training.engine.machine.device import Device
from training.engine.models import loading
from training.engine.report import Silent
from training.engine.tuning import adapters, fuse, peft

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "adapters.json").read_text())


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.v_proj = nn.Linear(8, 6), nn.Linear(6, 8, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.v_proj(mx.tanh(self.q_proj(x)))


class Model(nn.Module):
    """The model that the golden file was made with (`tests/parity/make_adapters.py`)."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        block = nn.Module()
        block.self_attn = Attention()
        self.model.layers = [block]

    @property
    def layers(self) -> list[nn.Module]:
        return list(self.model.layers)

    def __call__(self, x: mx.array) -> mx.array:
        return self.model.layers[0].self_attn(x)


def array(kept: dict[str, Any]) -> mx.array:
    return mx.array(np.array(kept["values"], dtype=np.float32).reshape(kept["shape"]))


def arrays(kept: dict[str, Any]) -> dict[str, mx.array]:
    return {name: array(value) for name, value in kept.items()}


def base_of(row: dict[str, Any]) -> Model:
    model = Model()
    model.load_weights(list(arrays(row["base"]).items()))
    return model


def folder_of(path: Path, config: dict[str, Any], tensors: dict[str, mx.array]) -> Path:
    path.mkdir()
    (path / places.CONFIG).write_text(json.dumps(config))
    mx.save_safetensors(str(path / peft.WEIGHTS), tensors, {"format": "pt"})
    return path


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_what_peft_stores_computes_what_peft_does(row: dict[str, Any], tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", row["config"], arrays(row["adapter"]))
    peft.convert(folder)
    model = base_of(row)
    assert fuse.fuse(model, folder) == {}
    for name, weight in arrays(row["merged"]).items():
        ours = dict(model.model.layers[0].named_modules())[name.removeprefix("model.layers.0.").rpartition(".")[0]]
        assert mx.allclose(ours[name.rpartition(".")[2]], weight, rtol=1e-5, atol=1e-6), name
    assert mx.allclose(model(array(row["x"])), array(row["output"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_layers_with_pefts_settings_have_pefts_gradients(row: dict[str, Any]) -> None:
    output, found = layers_of(row)
    assert mx.allclose(output, array(row["output"]), rtol=1e-5, atol=1e-5)
    wanted = turned(row["gradients"])
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert mx.allclose(found[name], gradient, rtol=1e-4, atol=1e-5), name


def layers_of(row: dict[str, Any]) -> tuple[mx.array, dict[str, mx.array]]:
    """Output and gradients of the golden model with our layers and PEFT's numbers in them."""
    asked = row["config"]
    settings = {
        "rank": asked["r"], "alpha": asked["lora_alpha"], "use_rslora": asked["use_rslora"],
        "rank_pattern": asked["rank_pattern"], "alpha_pattern": asked["alpha_pattern"],
    }  # fmt: skip
    model = base_of(row)
    adapters.apply(model, Dora(**settings) if asked["use_dora"] else Lora(**settings))
    model.load_weights(list(turned(row["adapter"]).items()), strict=False)
    _, gradients = nn.value_and_grad(model, lambda x: model(x).square().sum())(array(row["x"]))
    return model(array(row["x"])), dict(nn.utils.tree_flatten(gradients))


def turned(kept: dict[str, Any]) -> dict[str, mx.array]:
    """PEFT's tensors under our names."""
    made = {}
    for name, value in arrays(kept).items():
        ours = name.removeprefix(peft.PREFIX).replace(".weight", "").replace("lora_magnitude_vector", "m")
        made[ours.replace("lora_A", "lora_a").replace("lora_B", "lora_b")] = value if value.ndim == 1 else value.T
    return made


@pytest.mark.parametrize("settings", [Lora(rank=4, alpha=10), Dora(rank=4, alpha=3)], ids=lambda s: s.name)
def test_there_and_back_bit_for_bit(settings: Any, tiny_llama: Path, tmp_path: Path) -> None:
    head = mx.random.normal((1, 64))
    trained(loading.load(tiny_llama, "auto", CPU).model, settings, tmp_path / "a", **{"score.weight": head})
    told = peft.write(tmp_path / "a", tmp_path / "peft", "org/base")
    assert (told["r"], told["lora_alpha"], told["use_dora"]) == (4, settings.alpha, settings.name == "dora")
    config, back = peft.read(tmp_path / "peft")
    start = fuse.read_arrays(tmp_path / "a" / places.WEIGHTS)
    assert back.keys() == start.keys()
    assert all(mx.array_equal(back[name], start[name]) for name in start)
    assert config["lora_parameters"]["scale"] == settings.scale
    described = json.loads((tmp_path / "peft" / places.CONFIG).read_text())
    assert (described["modules_to_save"], described["base_model_name_or_path"]) == (["score"], "org/base")


def test_ranks_by_module_leave_without_their_filling(tiny_llama: Path, tmp_path: Path) -> None:
    settings = Lora(rank=2, alpha=4, rank_pattern={"q_proj": 6}, alpha_pattern={"up_proj": 16})
    with_layers = trained(loading.load(tiny_llama, "auto", CPU).model, settings, tmp_path / "raw")
    config = adapters.describe(settings)
    write(tmp_path / "a", config, **adapters.stock_form(adapters.trained_weights(with_layers), config))
    peft.write(tmp_path / "a", tmp_path / "peft")
    described = json.loads((tmp_path / "peft" / places.CONFIG).read_text())
    assert described["rank_pattern"] == {f"model.layers.{i}.self_attn.q_proj": 6 for i in (0, 1)}
    peft.convert(tmp_path / "peft")
    placed = fuse.load_place(Place(model=tiny_llama, adapter=tmp_path / "peft"), "auto", CPU).loaded
    assert mx.allclose(placed.model(IDS), with_layers(IDS), rtol=1e-5, atol=1e-5)
    stock = mlx_lm.load(str(tiny_llama), adapter_path=str(tmp_path / "peft"))[0]
    assert mx.allclose(stock(IDS), with_layers(IDS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "IA3"},
        {"fan_in_fan_out": True},
        {"init_lora_weights": "pissa_niter_4"},
        {"alpha_pattern": {"(a+)+$": 4}},
        {"layer_replication": [[0, 2]]},
    ],
)
def test_what_is_no_plain_lora_is_refused_by_name(change: dict[str, Any], tmp_path: Path) -> None:
    row = GOLDEN[0]
    folder = folder_of(tmp_path / "a", row["config"] | change, arrays(row["adapter"]))
    assert code_of(lambda: peft.read(folder)) == "adapter.peft_unsupported"


@pytest.mark.parametrize("alpha", [0, -1, "8", True, None])
def test_an_alpha_that_cannot_be_is_refused(alpha: Any, tmp_path: Path) -> None:
    row = GOLDEN[0]
    folder = folder_of(tmp_path / "a", row["config"] | {"lora_alpha": alpha}, arrays(row["adapter"]))
    assert code_of(lambda: peft.read(folder)) == "adapter.config_broken"


def test_what_peft_cannot_hold_does_not_leave(tiny_llama: Path, tmp_path: Path) -> None:
    trained(loading.load(tiny_llama, "auto", CPU).model, Full(), tmp_path / "full")
    assert code_of(lambda: peft.write(tmp_path / "full", tmp_path / "out")) == "adapter.peft_unsupported"
    for name in ("one", "two"):
        trained(loading.load(tiny_llama, "auto", CPU).model, Lora(rank=2), tmp_path / name)
    config = places.put_before(tmp_path / "two", adapters.describe(Lora(rank=2)), tmp_path / "one")
    (tmp_path / "two" / places.CONFIG).write_text(json.dumps(config))
    assert code_of(lambda: peft.write(tmp_path / "two", tmp_path / "out")) == "adapter.peft_unsupported"
    assert not (tmp_path / "out").exists()


def imported(source: Path, base: Path, target: Path) -> dict[str, Any]:
    asked = {"source": {"kind": "folder", "path": str(source)}, "base": str(base), "target": str(target)}
    return import_model.run(ImportModelConfig.model_validate(asked), Silent())


@pytest.mark.parametrize("form", ["peft", "mlx-lm"])
def test_an_adapters_folder_is_imported_for_its_base(form: str, tiny_llama: Path, tmp_path: Path) -> None:
    with_layers = trained(loading.load(tiny_llama, "auto", CPU).model, Lora(rank=2, alpha=6), tmp_path / "a")
    source = tmp_path / "a"
    if form == "peft":
        peft.write(tmp_path / "a", source := tmp_path / "peft")
        (source / "trap.py").write_text("raise SystemExit")
    result = imported(source, tiny_llama, tmp_path / "models" / "x")
    assert (result["model_type"], result["remote_code"]) == ("llama", ["trap.py"] if form == "peft" else [])
    assert sorted(result["files"]) == ["adapter_config.json", "adapters.safetensors"]
    placed = fuse.load_place(Place(model=tiny_llama, adapter=tmp_path / "models" / "x"), "auto", CPU)
    assert mx.allclose(placed.loaded.model(IDS), with_layers(IDS), rtol=1e-5, atol=1e-5)
    assert imported(source, tiny_llama, tmp_path / "models" / "x")["files"] == result["files"]


def test_an_adapter_of_another_model_is_not_imported(tiny_llama: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", GOLDEN[0]["config"], arrays(GOLDEN[0]["adapter"]))
    assert code_of(lambda: imported(folder, tiny_llama, tmp_path / "x")) == "adapter.other_shape"
    (folder / peft.WEIGHTS).rename(folder / "adapter_model.bin")
    assert code_of(lambda: imported(folder, tiny_llama, tmp_path / "x")) == "model.pickle"
    assert code_of(lambda: imported(tiny_llama, tiny_llama, tmp_path / "x")) == "adapter.missing"
    assert not (tmp_path / "x").exists()


def test_the_command_says_what_it_wrote(tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(loading.load(tiny_llama, "auto", CPU).model, Lora(rank=2), tmp_path / "a")
    asked = {"adapter": str(tmp_path / "a"), "target": str(tmp_path / "out")}
    (tmp_path / "c.json").write_text(json.dumps(asked))
    assert cli.main(["export-peft", "--config", str(tmp_path / "c.json")]) == 0
    assert json.loads(capsys.readouterr().out)["modules"] == 14
    assert cli.main(["export-peft", "--config", str(tmp_path / "c.json")]) == 7
    assert json.loads(capsys.readouterr().out)["failed"]["code"] == "storage.write"


def code_of(act: Any) -> str:
    with pytest.raises(ModelError) as refused:
        act()
    return refused.value.code
