"""The tokenizer inside a GGUF file as ``tokenizer.json`` and ``tokenizer_config.json``.

Byte-level BPE only. GGUF names the way text is cut before the merges (``tokenizer.ggml.pre``) but
does not spell it out; the ways are those of llama.cpp's ``llama_vocab`` and of the models'
published tokenizers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from training.engine.errors import ModelError

_NORMAL, _UNKNOWN, _CONTROL, _USER = 1, 2, 3, 4  # tokenizer.ggml.token_type

# Case-insensitive endings, words with one leading sign, numbers, signs with line ends, blanks.
_GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _digits_apart() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _gpt4(digits: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(tokenizers.Regex(_GPT4 % digits), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_PRE = {
    "gpt-2": _gpt2,
    "default": _gpt2,
    "smollm": _digits_apart,
    "starcoder": _digits_apart,
    "refact": _digits_apart,
    "codeshell": _digits_apart,
    "llama-bpe": lambda: _gpt4("{1,3}"),
    "llama3": lambda: _gpt4("{1,3}"),
    "llama-v3": lambda: _gpt4("{1,3}"),
    "smaug-bpe": lambda: _gpt4("{1,3}"),
    "qwen2": lambda: _gpt4(""),
    "deepseek-r1-qwen": lambda: _gpt4(""),
}


def write(metadata: dict[str, Any], folder: Path) -> frozenset[int]:
    """Write both files into ``folder``; returns the ids that end an answer.

    Raises ModelError: ``model.no_tokenizer``, ``model.gguf_tokenizer`` (a kind that is not known).
    """
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "default")
    tokens, merges = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.merges")
    if not tokens:
        raise ModelError("model.no_tokenizer", "The GGUF file holds no tokenizer.", _HINT)
    if kind != "gpt2" or pre not in _PRE or not merges:
        raise ModelError(
            "model.gguf_tokenizer",
            f"The GGUF file's tokenizer is of kind '{kind}' / '{pre}'; known are gpt2 with {', '.join(_PRE)}.",
            _HINT,
        )
    if len(set(tokens)) != len(tokens):
        raise ModelError("model.gguf_tokenizer", "The GGUF file's vocabulary has the same token twice.", _HINT)
    backend = _backend(str(pre), tokens, merges)
    kinds = metadata.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    added = [(t, k) for t, k in zip(tokens, kinds, strict=False) if k in (_UNKNOWN, _CONTROL, _USER)]
    # One call per kind: the order does not matter, the ids are those of the vocabulary.
    backend.add_special_tokens([_added(t, True) for t, k in added if k != _USER])
    backend.add_tokens([_added(t, False) for t, k in added if k == _USER])
    backend.save(str(folder / "tokenizer.json"))
    ends = _ids(metadata, len(tokens), "eos_token_id", "eot_token_id", "eom_token_id")
    about = _about(metadata, tokens)
    (folder / "tokenizer_config.json").write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return ends


_HINT = "Import the model from the Hugging Face Hub or from its folder instead; those carry tokenizer.json."


def _backend(pre: str, tokens: list[str], merges: list[str]) -> tokenizers.Tokenizer:
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    if not all(left and right for left, right in pairs):
        raise ModelError("model.gguf_tokenizer", "The GGUF file has a merge that is no pair.", _HINT)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    whole_words = pre in ("llama-bpe", "llama3", "llama-v3")  # a word of the vocabulary is taken as it is
    try:
        model = models.BPE(vocabulary, pairs, ignore_merges=whole_words)
    except Exception as error:  # the library raises the bare class
        raise ModelError("model.gguf_tokenizer", f"The GGUF file's merges do not fit: {error}.", _HINT) from None
    backend = tokenizers.Tokenizer(model)
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = _PRE[pre]()
    backend.decoder = decoders.ByteLevel()
    return backend


def _added(text: str, special: bool) -> tokenizers.AddedToken:
    return tokenizers.AddedToken(text, special=special, normalized=False)


def _about(metadata: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    """tokenizer_config.json: special tokens by name, the chat template."""
    about: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": bool(metadata.get("tokenizer.ggml.add_bos_token", False)),
        "clean_up_tokenization_spaces": False,
    }
    names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    for name, key in names.items():
        for i in _ids(metadata, len(tokens), f"{key}_token_id"):
            about[name] = tokens[i]
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str) and template.strip():
        about["chat_template"] = template
    architecture = metadata.get("general.architecture")
    about["model_max_length"] = metadata.get(f"{architecture}.context_length", 2048)
    return about


def _ids(metadata: dict[str, Any], size: int, *names: str) -> frozenset[int]:
    found = (metadata.get(f"tokenizer.ggml.{name}") for name in names)
    return frozenset(i for i in found if isinstance(i, int) and 0 <= i < size)
