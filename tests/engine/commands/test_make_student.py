"""Smaller models out of larger ones: folders that stock mlx-lm opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest

from tests.engine import runs
from tests.fakes import tiny
from training.engine.commands import make_student
from training.engine.config import derived
from training.engine.config.derived import MakeStudentConfig
from training.engine.errors import ConfigError, EngineError, Exit
from training.engine.machine.device import Device
from training.engine.models import loading
from training.engine.report import Silent

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
IDS = mx.array([[5, 260, 17, 99, 3, 250, 40]])


def make(model: Path, target: Path, layers: Any = "every_other", adapter: Path | None = None) -> dict[str, Any]:
    place = {"model": model, "adapter": adapter}
    config = {"schema": 1, "model": place, "layers": layers, "name": "small", "target": target}
    return make_student.run(MakeStudentConfig.model_validate(config), Silent())


@pytest.mark.parametrize(
    ("layers", "count", "expected"),
    [("every_other", 5, [0, 2, 4]), (3, 5, [0, 2, 4]), (2, 30, [0, 29]), (1, 4, [0]), ([1, 3], 4, [1, 3])],
)
def test_which_layers_stay(layers: derived.Layers, count: int, expected: list[int]) -> None:
    assert derived.kept(layers, count) == expected


@pytest.mark.parametrize(("layers", "count"), [(4, 4), (9, 4), ([], 4), ([2, 1], 4), ([1, 1], 4), ([4], 4)])
def test_layers_that_cannot_be(layers: derived.Layers, count: int) -> None:
    with pytest.raises(ConfigError, match=f"The model has {count} layers") as refusal:
        derived.kept(layers, count)
    assert refusal.value.code == "student.layers"


@pytest.mark.parametrize("bits", [None, 4])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_it_is_the_model_without_the_other_layers(family: str, bits: int | None, tmp_path: Path) -> None:
    result = make(tiny.make(tmp_path / "large", family, bits=bits), tmp_path / "small", [1])
    large, small = (loading.load(tmp_path / name, "float32", CPU).model for name in ("large", "small"))
    large.model.layers = large.model.layers[1:]
    assert mx.allclose(large(IDS), small(IDS), atol=1e-5)
    assert (result["layers"], result["model_type"], result["name"]) == ([1], family, "small")
    assert (result["quantization"] or {}).get("bits") == bits


def test_stock_mlx_lm_opens_it(tiny_llama: Path, tmp_path: Path) -> None:
    result = make(tiny_llama, tmp_path / "small")
    model, words = mlx_lm.load(str(tmp_path / "small"))[:2]
    assert len(model.layers) == 1
    assert words.encode("what") == mlx_lm.load(str(tiny_llama))[1].encode("what")
    assert result["files"].keys() == {p.name for p in (tmp_path / "small").iterdir()} - {"import.json"}


def test_made_twice_it_is_the_first(tiny_llama: Path, tmp_path: Path) -> None:
    assert make(tiny_llama, tmp_path / "small") == make(tiny_llama, tmp_path / "small")


def test_an_adapter_goes_into_the_layers(tiny_llama: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, runs.data(tmp_path / "data"), iters=2, save_every=2, learning_rate=1e-2)
    assert runs.run(tmp_path / "run", config) == Exit.FINISHED
    make(tiny_llama, tmp_path / "small", [0], tmp_path / "run/checkpoints/0000002")
    make(tiny_llama, tmp_path / "plain", [0])
    one, other = (loading.load(tmp_path / name, "float32", CPU).model(IDS) for name in ("small", "plain"))
    assert not mx.allclose(one, other, atol=1e-3)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A model whose first layer sees a window and whose second sees everything."""
    folder = tiny.make(tmp_path / "large")
    about = json.loads((folder / "config.json").read_text())
    kinds = ["sliding_attention", "full_attention"]
    (folder / "config.json").write_text(json.dumps({**about, "layer_types": kinds, "sliding_window": 16}))
    return folder


def test_lists_by_layer_are_cut_too(mixed: Path, tmp_path: Path) -> None:
    make(mixed, tmp_path / "small", [1])
    assert json.loads((tmp_path / "small/config.json").read_text())["layer_types"] == ["full_attention"]


def test_layers_that_make_no_model_alone_are_refused(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as refusal:
        make(mixed, tmp_path / "small", [0])
    assert refusal.value.code == "student.positions"


def test_a_family_whose_layers_know_their_place_is_refused(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = json.loads((mixed / "config.json").read_text())
    del about["layer_types"]
    # As in a family that makes the list by itself, out of the number of layers.
    monkeypatch.setattr(make_student, "_about", lambda config, kept: {**about, "num_hidden_layers": len(kept)})
    with pytest.raises(EngineError, match="Layer 0 would do something else") as refusal:
        make(mixed, tmp_path / "small", [0])
    assert refusal.value.code == "student.positions"
    assert not (tmp_path / "small").exists()


def test_it_is_distilled_from_its_teacher(tiny_llama: Path, tmp_path: Path) -> None:
    make(tiny_llama, tmp_path / "small")
    others = {"teacher": {"model": str(tiny_llama)}}
    request = runs.request(
        tmp_path / "small", runs.data(tmp_path / "data"), method="distillation", others=others, iters=30,
        learning_rate=1e-2, adapter="full",
    )  # fmt: skip
    assert runs.run(tmp_path / "run", request) == Exit.FINISHED
    losses = runs.points(tmp_path / "run")
    assert losses[30] < 0.7 * losses[1]
