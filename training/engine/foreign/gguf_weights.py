"""Tensors and metadata of a GGUF file as an MLX model: names, order of rows, ``config.json``.

Known are Llama (and what llama.cpp stores as such: Mistral, SmolLM2), Qwen2 and Qwen3.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx

from training.engine.errors import ModelError
from training.engine.foreign.gguf import Header

GROUP_SIZE = 32  # of Q4_0, Q4_1 and Q8_0, as MLX reads them
_BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}
_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}

_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAME = re.compile(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias|scales|biases)")
_ROPE = "rope_freqs.weight"


def config(header: Header) -> dict[str, Any]:
    """``config.json`` for stock mlx-lm, from the metadata and the tensors' types.

    Raises ModelError: ``model.gguf_architecture``, ``model.gguf_metadata``, ``model.gguf_split``.
    """
    meta = header.metadata
    family = str(meta.get("general.architecture", ""))
    if family not in _ARCHITECTURES:
        raise ModelError(
            "model.gguf_architecture",
            f"The GGUF file is of the architecture '{family[:80]}'; known are {', '.join(_ARCHITECTURES)}.",
            "Import this model from the Hugging Face Hub or from its folder of safetensors.",
        )
    if int(meta.get("split.count", 0) or 0) > 1:
        raise ModelError(
            "model.gguf_split",
            f"This file is one of {meta['split.count']} parts of a model.",
            "Join the parts first: llama-gguf-split --merge <first part> <joined file>.",
        )
    heads = _whole(meta, f"{family}.attention.head_count")
    hidden = _whole(meta, f"{family}.embedding_length")
    about: dict[str, Any] = {
        "model_type": family,
        "architectures": [_ARCHITECTURES[family]],
        "hidden_size": hidden,
        "num_hidden_layers": _whole(meta, f"{family}.block_count"),
        "intermediate_size": _whole(meta, f"{family}.feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": _whole(meta, f"{family}.attention.head_count_kv", heads),
        "head_dim": _whole(meta, f"{family}.attention.key_length", max(1, hidden // heads)),
        "rms_norm_eps": _real(meta, f"{family}.attention.layer_norm_rms_epsilon"),
        "rope_theta": _real(meta, f"{family}.rope.freq_base", 10000.0),
        "max_position_embeddings": _whole(meta, f"{family}.context_length"),
        "vocab_size": header.tensors["token_embd.weight"].shape[0] if "token_embd.weight" in header.tensors else 0,
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "attention_bias": "blk.0.attn_q.bias" in header.tensors,
        "mlp_bias": "blk.0.ffn_gate.bias" in header.tensors,
        "torch_dtype": "float16",
    }
    scaling = _rope_scaling(header, family)
    if scaling:
        about["rope_scaling"] = scaling
    quantization = _quantization(header)
    if quantization:
        about["quantization"] = quantization
    return about


def weights(path: Path, header: Header, about: dict[str, Any]) -> dict[str, mx.array]:
    """The tensors of ``path`` under mlx-lm's names; floating-point ones as float16.

    ``about`` is what :func:`config` returned. Raises ModelError ``model.gguf_tensor`` for a tensor
    that this family does not have.
    """
    _check_names(header)
    loaded = mx.load(str(path), format="gguf")
    assert isinstance(loaded, dict)
    renamed = {}
    for name, value in loaded.items():
        if name == _ROPE:
            continue
        array = value if value.dtype == mx.uint32 else value.astype(mx.float16)
        if about["model_type"] == "llama" and (".attn_q." in name or ".attn_k." in name):
            kv = ".attn_k." in name
            array = halves_apart(array, about["num_key_value_heads" if kv else "num_attention_heads"])
        renamed[rename(name)] = array
    return renamed


def rename(name: str) -> str:
    """mlx-lm's name of the GGUF tensor ``name``. Raises ModelError ``model.gguf_tensor``."""
    match = _NAME.fullmatch(name)
    if match:
        layer, inner, kind = match.groups()
        if layer is None and inner in _OUTER:
            return f"{_OUTER[inner]}.{kind}"
        if layer is not None and inner in _INNER:
            return f"model.layers.{int(layer)}.{_INNER[inner]}.{kind}"
    raise ModelError(
        "model.gguf_tensor",
        f"The GGUF file has a tensor '{name[:80]}' that its architecture does not know.",
        "Mixture-of-experts and multimodal models are imported from the Hugging Face Hub or from a folder.",
    )


def halves_apart(array: mx.array, heads: int) -> mx.array:
    """Rows of a q or k projection in the order MLX's rotary embedding wants: first halves, then second.

    llama.cpp stores each head's rows interleaved (0, d/2, 1, d/2+1, …) for the Llama family. Only
    rows move, so the packed numbers of a quantised matrix, its scales and its biases move alike.
    ``array``: (heads * d, ...).
    """
    rows = array.shape[0]
    if rows % (2 * heads):
        raise ModelError(
            "model.gguf_tensor",
            f"A q or k matrix has {rows} rows, which {heads} heads cannot share.",
            "Fetch the file again.",
        )
    parts = array.reshape(heads, rows // heads // 2, 2, *array.shape[1:])
    return parts.swapaxes(1, 2).reshape(array.shape)


def _check_names(header: Header) -> None:
    for name in header.tensors:
        if name != _ROPE:
            rename(name)


def _quantization(header: Header) -> dict[str, Any]:
    """mlx-lm's ``quantization``: the commonest width for all, the others layer by layer."""
    bits = {
        rename(name).removesuffix(".weight"): _BITS[tensor.type.name]
        for name, tensor in header.tensors.items()
        if name != _ROPE and tensor.type.name in _BITS
    }
    if not bits:
        return {}
    (common, _), *_ = Counter(bits.values()).most_common(1)
    others = {n: {"group_size": GROUP_SIZE, "bits": b} for n, b in bits.items() if b != common}
    return {"group_size": GROUP_SIZE, "bits": common, **others}


def _rope_scaling(header: Header, family: str) -> dict[str, Any] | None:
    meta = header.metadata
    kind = meta.get(f"{family}.rope.scaling.type", "none")
    if kind == "linear":
        return {"type": "linear", "factor": _real(meta, f"{family}.rope.scaling.factor")}
    if kind == "yarn":
        original = _whole(meta, f"{family}.rope.scaling.original_context_length")
        factor = _real(meta, f"{family}.rope.scaling.factor")
        return {"type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    if kind != "none":
        raise ModelError("model.gguf_metadata", f"Its rotary scaling '{kind}' is not known.", _HINT_METADATA)
    if _ROPE in header.tensors:
        raise ModelError(
            "model.gguf_rope",
            "The GGUF file carries its own table of rotary frequencies (Llama 3.1 and later).",
            "Import this model from the Hugging Face Hub or from its folder, where config.json says how they are made.",
        )
    return None


_HINT_METADATA = "Convert the model again with a present llama.cpp, or import it from another source."


def _whole(meta: dict[str, Any], key: str, default: int | None = None) -> int:
    value = meta.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1 << 24:
        raise ModelError(
            "model.gguf_metadata", f"The GGUF file's metadata has {key} = {str(value)[:60]}.", _HINT_METADATA
        )
    return value


def _real(meta: dict[str, Any], key: str, default: float | None = None) -> float:
    value = meta.get(key, default)
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ModelError(
            "model.gguf_metadata", f"The GGUF file's metadata has {key} = {str(value)[:60]}.", _HINT_METADATA
        )
    return float(f"{value:.6g}")  # stored as float32: 1e-5 stands there as 9.99999975e-06
