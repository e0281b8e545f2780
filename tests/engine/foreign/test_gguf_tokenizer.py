"""The tokenizer out of GGUF metadata, against the published ones of the same families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import Qwen2Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

from tests.fakes import gguf_file
from training.engine.errors import ModelError
from training.engine.foreign import gguf_tokenizer
from training.engine.models import tokenizer

TEXT = "Hello World, I'LL pay 12345.67€ to  naïve\tfolks!!\r\n\r\n  def f(x): return x**2  # 你好 🙂 don't \u00a0 end "


@pytest.fixture
def entries(tiny_llama: Path) -> dict[str, Any]:
    return gguf_file.metadata(tiny_llama, json.loads((tiny_llama / "config.json").read_text()))


def pieces(folder: Path) -> list[str]:
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(TEXT)]


def test_gives_the_same_ids_as_the_tokenizer_it_was_made_from(
    entries: dict[str, Any], tiny_llama: Path, tmp_path: Path
) -> None:
    assert gguf_tokenizer.write(entries, tmp_path) == {273}
    ours, source = tokenizer.load(tmp_path), tokenizer.load(tiny_llama)
    for text in (TEXT, "<|im_start|>user\nthe thing<|im_end|>", ""):
        assert ours.encode(text) == source.encode(text)
    assert (ours.bos_id, ours.pad_id, ours.eos_ids) == (272, 271, {273})
    chat = [{"role": "user", "content": "x"}]
    assert ours.render(chat, add_generation_prompt=True) == source.render(chat, add_generation_prompt=True)


def test_cuts_as_qwen2_does(entries: dict[str, Any], tmp_path: Path) -> None:
    gguf_tokenizer.write(entries | {"tokenizer.ggml.pre": "qwen2"}, tmp_path)
    theirs = Qwen2Tokenizer(vocab={"a": 0, "<|endoftext|>": 1}, merges=[])
    assert pieces(tmp_path) == [p for p, _ in theirs._tokenizer.pre_tokenizer.pre_tokenize_str(TEXT)]
    assert "1" in pieces(tmp_path)


def test_cuts_as_llama3_does(entries: dict[str, Any], tmp_path: Path) -> None:
    gguf_tokenizer.write(entries | {"tokenizer.ggml.pre": "llama-bpe"}, tmp_path)
    pattern = TikTokenConverter(vocab_file="unused").pattern
    theirs = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    assert pieces(tmp_path) == [p for p, _ in theirs.pre_tokenize_str(TEXT)]
    assert "123" in pieces(tmp_path)


def test_smollm_takes_digits_one_by_one(entries: dict[str, Any], tmp_path: Path) -> None:
    gguf_tokenizer.write(entries | {"tokenizer.ggml.pre": "smollm"}, tmp_path)
    assert [p for p in pieces(tmp_path) if p.isdigit()] == [*"1234567", "2"]


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer.ggml.model": "llama"},
        {"tokenizer.ggml.pre": "made-up"},
        {"tokenizer.ggml.merges": []},
        {"tokenizer.ggml.merges": ["ab"]},
        {"tokenizer.ggml.merges": ["nowhere either"]},
        {"tokenizer.ggml.tokens": ["a", "a"]},
    ],
)
def test_other_kinds_are_refused_by_name(change: dict[str, Any], entries: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        gguf_tokenizer.write(entries | change, tmp_path)
    assert error.value.code == "model.gguf_tokenizer"


def test_a_file_without_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        gguf_tokenizer.write({"general.architecture": "llama"}, tmp_path)
    assert error.value.code == "model.no_tokenizer"


def test_special_and_user_tokens_are_told_apart(entries: dict[str, Any], tmp_path: Path) -> None:
    kinds = list(entries["tokenizer.ggml.token_type"])
    kinds[271] = 4
    gguf_tokenizer.write(entries | {"tokenizer.ggml.token_type": kinds}, tmp_path)
    rows = {r["id"]: r["special"] for r in json.loads((tmp_path / "tokenizer.json").read_text())["added_tokens"]}
    assert rows == {271: False, 272: True, 273: True}
    assert isinstance(Tokenizer.from_file(str(tmp_path / "tokenizer.json")).model, models.BPE)
