"""Small random models of many families, in memory: mlx-lm's own classes, real MLX."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from training.engine.models.mlx_models import architecture

VOCABULARY = 96
_BASE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "layer_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "vocab_size": VOCABULARY,
}

#: Families whose rows can share one token axis.
SHARING: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "mistral": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": False},
    "gemma": {},
    "gemma3_text": {"sliding_window": 6, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8.0},
    "phi": {"partial_rotary_factor": 0.5},
    "phi3": {"num_key_value_heads": 4, "tie_word_embeddings": False},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo2": {"tie_word_embeddings": False},
}

#: Families that look along the axis in some other way.
APART: dict[str, dict[str, Any]] = {
    "gpt2": {"n_ctx": 64, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64, "layer_norm_epsilon": 1e-5},
    "mamba": {
        "state_size": 8,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 4,
        "tie_word_embeddings": True,
    },
    "gemma2": {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 8.0},
}


def make(family: str, seed: int = 0) -> nn.Module:
    """A model of 2 layers in float32; same arguments, same weights."""
    config = {**_BASE, "model_type": family, **(SHARING | APART)[family]}
    model_class, args_class = architecture(config)
    model: nn.Module = model_class(args_class.from_dict(config))
    key, weights = mx.random.key(seed), []
    for name, value in tree_flatten(model.parameters()):
        key, now = mx.random.split(key)
        noise = mx.random.normal(value.shape, key=now)
        weights.append((name, 1 + 0.1 * noise if "norm" in name else 0.15 * noise))
    model.load_weights(weights)
    mx.eval(model.parameters())
    return model
