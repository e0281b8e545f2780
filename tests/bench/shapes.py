"""Models of a given shape with random weights, and texts of drawn lengths: made on the machine, without network.

How fast a model trains does not depend on what it knows.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from tests.bench import chats
from tests.fakes import tiny
from training.engine.models import tokenizer
from training.engine.models.mlx_models import architecture
from training.engine.rows.masks import encode
from training.engine.run import rundir

CONTEXT = 2048  # tokens
GROUP = 64  # numbers that share a scale in the 4-bit model


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's sizes, and how many texts of which lengths it is given."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    dtype: mx.Dtype
    rows: int
    median: int
    shortest: int
    longest: int


SHAPES = {
    # Llama 3.2 1B's: 1.24 billion parameters with tied embeddings.
    "1b": Shape(16, 2048, 8192, 32, 8, 128256, mx.bfloat16, rows=2048, median=200, shortest=16, longest=1024),
    "tiny": Shape(2, 128, 256, 4, 2, 512, mx.float32, rows=64, median=24, shortest=16, longest=64),
}


def make(folder: Path, name: str, bits: int | None = None, seed: int = 0) -> Path:
    """The model folder of shape ``name`` in ``folder``, made once; ``bits``: quantised (groups of 64)."""
    if (folder / "config.json").exists():
        return folder
    shape = SHAPES[name]
    ends = tiny.tokenizer(folder) - 1
    config = _config(shape, ends)
    model_class, args_class = architecture(config)
    model = model_class(args_class.from_dict(config))
    model.set_dtype(shape.dtype)
    key, weights = mx.random.key(seed), []
    for path, value in tree_flatten(model.parameters()):
        key, now = mx.random.split(key)
        noise = mx.random.normal(value.shape, dtype=shape.dtype, key=now)
        weights.append((path, mx.ones_like(value) if path.endswith("norm.weight") else 0.02 * noise))
    model.load_weights(weights)
    if bits is not None:
        nn.quantize(model, group_size=GROUP, bits=bits)
        config["quantization"] = {"group_size": GROUP, "bits": bits}
    arrays = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    rundir.write_json(folder / "generation_config.json", {"eos_token_id": ends})
    rundir.write_json(folder / "config.json", config)  # last: a folder without it is made again
    return folder


def write(folder: Path, model: Path, name: str, seed: int = 1) -> int:
    """The shape's texts as train.jsonl in ``folder``; returns how many there are. Always the same."""
    shape, words, draw = SHAPES[name], tokenizer.load(model), random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "train.jsonl", "w") as file:
        for length in chats.lengths(shape.rows, seed, shape.median, shape.shortest, shape.longest):
            # Digits are a token each, so the text is as long as the number says; the end token is the last.
            text = "".join(draw.choices("0123456789", k=length - 1))
            assert len(encode({"text": text}, words).ids) == length
            file.write(json.dumps({"text": text}) + "\n")
    return shape.rows


def _config(shape: Shape, ends: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.intermediate,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.hidden // shape.heads,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "max_position_embeddings": CONTEXT,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": True,
        "eos_token_id": ends,
        "torch_dtype": str(shape.dtype).removeprefix("mlx.core."),
    }
