"""Complete model folders of a few kilobytes: real files, real MLX, random weights.

Stock ``mlx_lm.load`` opens them. The tokenizer knows every byte, a few merges and ChatML's tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import tokenizers
from mlx import nn
from mlx.utils import tree_flatten
from tokenizers import decoders, models, pre_tokenizers

from training.engine.models.mlx_models import architecture

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("t h", "e r", "a n", "i n", "Ġ a", "Ġ t", "o n", "r e", "Ġt h", "Ġth e", "s t", "in g", "o u", "Ġ s", "u s")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTEXT = 2048  # tokens


def make(folder: Path, family: str = "llama", bits: int | None = None, seed: int = 0) -> Path:
    """Write a model of 2 layers into ``folder`` and return it; same arguments, same bytes.

    ``family``: llama or qwen3. ``bits``: quantise all matrices (groups of 32), None: float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocab_size = tokenizer(folder)
    config = _config(family, vocab_size)
    model_class, args_class = architecture(config)
    model = model_class(args_class.from_dict(config))
    key = mx.random.key(seed)
    weights = []
    for name, value in tree_flatten(model.parameters()):
        key, now = mx.random.split(key)
        # Norms near 1, matrices large enough that the random model's answers differ from prompt to prompt.
        noise = mx.random.normal(value.shape, key=now)
        weights.append((name, 1 + 0.1 * noise if name.endswith("norm.weight") else 0.15 * noise))
    model.load_weights(weights)
    if bits is not None:
        nn.quantize(model, group_size=32, bits=bits)
        config["quantization"] = {"group_size": 32, "bits": bits}
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"eos_token_id": vocab_size - 1})
    return folder


def tokenizer(folder: Path) -> int:
    """Write only tokenizer.json and tokenizer_config.json; returns the number of tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(m.replace(" ", "") for m in MERGES)]
    merges = [(left, right) for left, right in (m.split(" ") for m in MERGES)]
    backend = tokenizers.Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    backend.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": TEMPLATE,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    _write(folder / "tokenizer_config.json", about)
    return len(words) + len(SPECIAL)


def _config(family: str, vocab_size: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_type": family,
        "architectures": [{"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[family]],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT,
        "vocab_size": vocab_size,
        "tie_word_embeddings": True,
        "eos_token_id": vocab_size - 1,
        "torch_dtype": "float32",
    }
    return config


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
