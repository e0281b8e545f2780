"""Writes GGUF files as llama.cpp would: the tiny models with its names, row order and packing."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

ALIGNMENT = 32
_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "BF16": 30}
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def from_folder(folder: Path, path: Path, matrices: str = "F16") -> Path:
    """The float32 model in ``folder`` as the GGUF file ``path``, its matrices packed as ``matrices``."""
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for name, value in mx.load(str(folder / "model.safetensors")).items():
        array = np.array(value)
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
        if heads and config["model_type"] == "llama":
            array = interleaved(array, config[heads])
        tensors[gguf_name(name)] = (array, matrices if array.ndim == 2 else "F32")
    return write(path, metadata(folder, config), tensors)


def gguf_name(name: str) -> str:
    """llama.cpp's name of mlx-lm's parameter ``name``."""
    body, _, kind = name.rpartition(".")
    if body.startswith("model.layers."):
        _, _, layer, inner = body.split(".", 3)
        return f"blk.{layer}.{_NAMES[inner]}.{kind}"
    return f"{_NAMES[body]}.{kind}"


def interleaved(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a q or k matrix in llama.cpp's order for the Llama family."""
    return array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def metadata(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The entries that llama.cpp writes for this model and its tokenizer."""
    family = config["model_type"]
    backend = json.loads((folder / "tokenizer.json").read_text())
    added = {row["content"]: row["id"] for row in backend["added_tokens"]}
    vocabulary = backend["model"]["vocab"] | added
    tokens = sorted(vocabulary, key=lambda t: vocabulary[t])
    return {
        "general.architecture": family,
        "general.license": "apache-2.0",
        f"{family}.block_count": config["num_hidden_layers"],
        f"{family}.context_length": config["max_position_embeddings"],
        f"{family}.embedding_length": config["hidden_size"],
        f"{family}.feed_forward_length": config["intermediate_size"],
        f"{family}.attention.head_count": config["num_attention_heads"],
        f"{family}.attention.head_count_kv": config["num_key_value_heads"],
        f"{family}.attention.key_length": config["head_dim"],
        f"{family}.rope.freq_base": config["rope_theta"],
        f"{family}.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if t in added else 1 for t in tokens],
        "tokenizer.ggml.merges": [" ".join(m) for m in backend["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": added["<|im_start|>"],
        "tokenizer.ggml.eos_token_id": added["<|im_end|>"],
        "tokenizer.ggml.padding_token_id": added["<|endoftext|>"],
        "tokenizer.chat_template": json.loads((folder / "tokenizer_config.json").read_text())["chat_template"],
    }


def write(path: Path, entries: dict[str, Any], tensors: dict[str, tuple[np.ndarray, str]], version: int = 3) -> Path:
    """A GGUF file of ``entries`` and ``tensors`` (array, name of its packing)."""
    out = bytearray(b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)))
    for key, value in entries.items():
        out += _string(key) + _value(value)
    blocks, offset = [], 0
    for name, (array, kind) in tensors.items():
        block = pack(array, kind)
        out += _string(name) + struct.pack("<I", array.ndim)
        out += struct.pack(f"<{array.ndim}Q", *array.shape[::-1]) + struct.pack("<IQ", _TYPES[kind], offset)
        block += b"\0" * (-len(block) % ALIGNMENT)
        blocks.append(block)
        offset += len(block)
    out += b"\0" * (-len(out) % ALIGNMENT)
    path.write_bytes(bytes(out) + b"".join(blocks))
    return path


def pack(array: np.ndarray, kind: str) -> bytes:
    """``array`` as ggml stores it; the packed kinds by blocks of 32 numbers."""
    if kind == "F32":
        return array.astype("<f4").tobytes()
    if kind == "F16":
        return array.astype("<f2").tobytes()
    if kind == "BF16":
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    blocks = array.astype(np.float32).reshape(-1, 32)
    if kind == "Q8_0":
        scale = np.abs(blocks).max(1) / 127
        numbers = np.rint(blocks / scale[:, None]).astype(np.int8)
        return b"".join(np.float16(s).tobytes() + n.tobytes() for s, n in zip(scale, numbers, strict=True))
    if kind == "Q4_0":
        scale, least = np.abs(blocks).max(1) / 8, None
        numbers = np.clip(np.rint(blocks / scale[:, None]) + 8, 0, 15).astype(np.uint8)
    else:
        least = blocks.min(1)
        scale = (blocks.max(1) - least) / 15
        numbers = np.rint((blocks - least[:, None]) / scale[:, None]).astype(np.uint8)
    halves = numbers[:, :16] | (numbers[:, 16:] << 4)
    heads = [np.float16(s).tobytes() for s in scale]
    if least is not None:
        heads = [h + np.float16(m).tobytes() for h, m in zip(heads, least, strict=True)]
    return b"".join(h + n.tobytes() for h, n in zip(heads, halves, strict=True))


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, list):
        kind = 8 if isinstance(value[0], str) else 5
        body = b"".join(_string(v) if kind == 8 else struct.pack("<i", v) for v in value)
        return struct.pack("<IIQ", 9, kind, len(value)) + body
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    return struct.pack("<If", 6, value)
