"""From llama.cpp's names, row order and packing to MLX's."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.fakes import gguf_file
from training.engine.errors import ModelError
from training.engine.foreign import gguf, gguf_weights

RAMP = np.arange(128, dtype=np.float32).reshape(4, 32)


def weights_of(folder: Path) -> dict[str, mx.array]:
    loaded = mx.load(str(folder / "model.safetensors"))
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_qwen3"])
def test_float_tensors_come_back_as_they_were(family: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(family)
    path = gguf_file.from_folder(folder, tmp_path / "m.gguf", "F16")
    header = gguf.read(path)
    found = gguf_weights.weights(path, header, gguf_weights.config(header))
    expected = weights_of(folder)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert mx.array_equal(found[name], value.astype(mx.float16)), name


@pytest.mark.parametrize(("kind", "bits"), [("Q8_0", 8), ("Q4_0", 4), ("Q4_1", 4)])
def test_packed_tensors_hold_the_same_numbers(kind: str, bits: int, tiny_llama: Path, tmp_path: Path) -> None:
    path = gguf_file.from_folder(tiny_llama, tmp_path / "m.gguf", kind)
    header = gguf.read(path)
    about = gguf_weights.config(header)
    found = gguf_weights.weights(path, header, about)
    assert about["quantization"] == {"group_size": 32, "bits": bits}
    for name, value in weights_of(tiny_llama).items():
        body = name.removesuffix(".weight")
        if value.ndim == 2:
            plain = mx.dequantize(*(found[f"{body}.{k}"] for k in ("weight", "scales", "biases")), 32, bits)
            step = mx.abs(value).max().item() / 2 ** (bits - 1)
            assert mx.abs(plain.astype(mx.float32) - value).max().item() < 1.05 * step, name


def test_each_layer_of_another_width_is_named(tmp_path: Path) -> None:
    tensors = {
        "token_embd.weight": (RAMP, "Q8_0"),
        "blk.0.ffn_up.weight": (RAMP, "Q4_1"),
        "blk.0.ffn_down.weight": (RAMP, "Q4_0"),
        "blk.1.ffn_down.weight": (RAMP, "F16"),
    }
    header = gguf.read(gguf_file.write(tmp_path / "m.gguf", LLAMA, tensors))
    assert gguf_weights.config(header)["quantization"] == {
        "group_size": 32,
        "bits": 4,
        "model.embed_tokens": {"group_size": 32, "bits": 8},
    }


LLAMA = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 128,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
}


def test_config_has_the_numbers_and_known_defaults(tmp_path: Path) -> None:
    tensors = {"token_embd.weight": (np.ones((10, 32), np.float32), "F16")}
    about = gguf_weights.config(gguf.read(gguf_file.write(tmp_path / "m.gguf", LLAMA, tensors)))
    assert about["rms_norm_eps"] == 1e-5
    assert (about["num_key_value_heads"], about["head_dim"], about["vocab_size"]) == (4, 8, 10)
    assert about["tie_word_embeddings"] is True
    assert "quantization" not in about


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"general.architecture": "mamba"}, "model.gguf_architecture"),
        ({"llama.block_count": 0}, "model.gguf_metadata"),
        ({"llama.block_count": "many"}, "model.gguf_metadata"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "model.gguf_metadata"),
        ({"llama.rope.scaling.type": "longrope"}, "model.gguf_metadata"),
        ({"split.count": 3}, "model.gguf_split"),
    ],
)
def test_metadata_that_cannot_be_is_named(change: dict[str, object], code: str, tmp_path: Path) -> None:
    path = gguf_file.write(tmp_path / "m.gguf", LLAMA | change, {})
    with pytest.raises(ModelError) as error:
        gguf_weights.config(gguf.read(path))
    assert error.value.code == code


def test_missing_metadata_is_named(tmp_path: Path) -> None:
    entries = {k: v for k, v in LLAMA.items() if k != "llama.context_length"}
    with pytest.raises(ModelError, match=r"llama\.context_length"):
        gguf_weights.config(gguf.read(gguf_file.write(tmp_path / "m.gguf", entries, {})))


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    tensors = {"blk.0.ffn_gate_exps.weight": (np.ones((2, 32), np.float32), "F16")}
    path = gguf_file.write(tmp_path / "m.gguf", LLAMA, tensors)
    header = gguf.read(path)
    with pytest.raises(ModelError, match="ffn_gate_exps"):
        gguf_weights.weights(path, header, {"model_type": "llama"})


def test_own_rotary_frequencies_are_refused(tmp_path: Path) -> None:
    tensors = {"rope_freqs.weight": (np.ones(4, np.float32), "F32")}
    with pytest.raises(ModelError) as error:
        gguf_weights.config(gguf.read(gguf_file.write(tmp_path / "m.gguf", LLAMA, tensors)))
    assert error.value.code == "model.gguf_rope"


def test_halves_apart_undoes_the_interleaving() -> None:
    rows = np.arange(24.0).reshape(12, 2)
    assert np.array_equal(np.array(gguf_weights.halves_apart(mx.array(gguf_file.interleaved(rows, 2)), 2)), rows)
    with pytest.raises(ModelError, match="12 rows"):
        gguf_weights.halves_apart(mx.zeros((12, 2)), 5)
