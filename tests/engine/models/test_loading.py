"""Opening model folders: the same logits as stock mlx-lm, and names for what is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest

from tests.fakes import tiny
from training.engine.errors import ModelError
from training.engine.machine.device import Device
from training.engine.models import loading

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
GPU_RULES = Device("metal", "test", 1 << 30, "", 1, False)  # what is loaded there; computed on any machine
IDS = mx.array([[5, 260, 17, 99, 3, 250, 40]])


@pytest.fixture
def copy(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def stock(folder: Path) -> mx.array:
    return mlx_lm.load(str(folder))[0](IDS)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_qwen3"])
def test_float_models_give_stock_logits_exactly(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    loaded = loading.load(folder, "auto", CPU)
    assert (loaded.quantized, loaded.dtype) == (False, mx.float32)
    assert mx.array_equal(loaded.model(IDS), stock(folder))


def test_a_packed_model_is_unpacked_on_a_cpu(tiny_quantised: Path) -> None:
    loaded = loading.load(tiny_quantised, "auto", CPU)
    assert (loaded.quantized, loaded.dtype) == (False, mx.float32)
    assert mx.allclose(loaded.model(IDS), stock(tiny_quantised), atol=1e-4)


def test_a_packed_model_stays_packed_on_a_gpu(tiny_quantised: Path) -> None:
    loaded = loading.load(tiny_quantised, "auto", GPU_RULES)
    assert loaded.quantized
    assert mx.array_equal(loaded.model(IDS), stock(tiny_quantised))


def test_counts_packed_and_plain_numbers_alike(tiny_llama: Path, tiny_quantised: Path) -> None:
    plain, packed = loading.inspect(tiny_llama), loading.inspect(tiny_quantised)
    assert plain.parameters == packed.parameters == loading.load(tiny_quantised, "auto", CPU).parameters
    assert plain.quantization is None
    assert packed.quantization == {"bits": 4, "group_size": 32}
    assert plain.context_length == tiny.CONTEXT


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_given_precision_is_kept(dtype: str, tiny_quantised: Path) -> None:
    loaded = loading.load(tiny_quantised, dtype, CPU)
    assert loaded.model(IDS).dtype == loaded.dtype == getattr(mx, dtype)


def test_layers_of_several_widths(tmp_path: Path) -> None:
    """As in imported GGUF files: 4-bit blocks, an 8-bit embedding named in config.json, float norms."""
    folder = tiny.make(tmp_path / "m")
    weights = dict(mx.load(str(folder / "model.safetensors")))  # type: ignore[arg-type]
    packed: dict[str, mx.array] = {}
    for name, value in weights.items():
        body, bits = name.removesuffix(".weight"), 8 if "embed" in name else 4
        if value.ndim == 2:
            for kind, part in zip(("weight", "scales", "biases"), mx.quantize(value, 32, bits), strict=True):
                packed[f"{body}.{kind}"] = part
        else:
            packed[name] = value
    mx.save_safetensors(str(folder / "model.safetensors"), packed, {"format": "mlx"})
    change(folder, quantization={"group_size": 32, "bits": 4, "model.embed_tokens": {"group_size": 32, "bits": 8}})
    assert mx.allclose(loading.load(folder, "auto", CPU).model(IDS), stock(folder), atol=1e-4)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"model_type": "no_such"}, "model.unknown_type"),
        ({"model_type": "../../evil"}, "model.unknown_type"),
        ({"model_type": "cache"}, "model.unknown_type"),
        ({"model_file": "evil.py"}, "model.remote_code"),
        ({"hidden_size": "big"}, "model.config_broken"),
        ({"num_attention_heads": 0, "head_dim": None}, "model.config_broken"),
        ({"quantization": 4}, "model.config_broken"),
        ({"quantization_config": {"quant_method": "awq"}}, "model.quantization_unknown"),
        ({"num_hidden_layers": 3}, "model.weights_missing"),
        ({"num_hidden_layers": 1}, "model.weights_unknown"),
        ({"intermediate_size": 256}, "model.weights_shape"),
    ],
)
def test_a_config_that_does_not_fit_is_named(values: dict[str, Any], code: str, copy: Path) -> None:
    change(copy, **values)
    with pytest.raises(ModelError) as error:
        loading.inspect(copy)
    assert error.value.code == code
    assert error.value.hint


def test_missing_weights_are_named_one_by_one(copy: Path) -> None:
    change(copy, num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"9 of the model's weights are missing: model\.layers\.2\.input_layernorm"):
        loading.inspect(copy)


def test_missing_files_are_named(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin"):
        loading.inspect(copy)
    (copy / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match=r"no model\*\.safetensors"):
        loading.inspect(copy)
    (copy / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        loading.inspect(copy)


def test_loading_leaves_transformers_alone(tiny_llama: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from training.engine.machine import device; "
        "from training.engine.models import loading; "
        f"loading.load(Path({str(tiny_llama)!r}), 'auto', device.detect()); "
        "print([m for m in ('transformers', 'datasets', 'mlx_lm.generate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
