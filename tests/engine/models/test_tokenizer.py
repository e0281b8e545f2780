"""Our tokenizer against transformers', and what it says about broken folders."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from training.engine.errors import DataError, ModelError
from training.engine.models import tokenizer

TEXTS = [
    "",
    "the cat in the house",
    "  two  blanks\n\n\tand tabs ",
    "Grüße, 你好, 🙂 \u200d café naïve",
    "12345 + 67.89 = 100%",
    "<|im_start|>user\nis it special?<|im_end|>",
    "def f(x):\n    return x ** 2  # don't\r\n",
]
CHATS = [
    [{"role": "user", "content": "What does `zip` do?"}],
    [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi {{ 7 * 7 }} %d"}],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": " b\n"},
        {"role": "user", "content": "Grüße <|im_end|>"},
    ],
]


@pytest.fixture
def copy(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def change(folder: Path, **values: object) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("text", TEXTS)
def test_encodes_and_decodes_as_transformers_does(tiny_llama: Path, text: str) -> None:
    ours, theirs = tokenizer.load(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama)
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert ours.decode(ids) == theirs.decode(ids) == text


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("prompt", [True, False])
def test_renders_as_transformers_does(tiny_llama: Path, chat: list[dict[str, str]], prompt: bool) -> None:
    theirs = AutoTokenizer.from_pretrained(tiny_llama)
    expected = theirs.apply_chat_template(chat, add_generation_prompt=prompt, tokenize=False)
    assert tokenizer.load(tiny_llama).render(chat, add_generation_prompt=prompt) == expected


def test_knows_the_special_tokens(tiny_llama: Path) -> None:
    ours, theirs = tokenizer.load(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama)
    assert ours.eos_ids == {theirs.eos_token_id}
    assert (ours.bos_id, ours.pad_id, ours.vocab_size) == (theirs.bos_token_id, theirs.pad_token_id, len(theirs))
    assert ours.eos_token == "<|im_end|>"


def test_several_end_tokens_come_from_the_generation_config(copy: Path) -> None:
    (copy / "generation_config.json").write_text('{"eos_token_id": [271, 272]}')
    assert tokenizer.load(copy).eos_ids == {271, 272, 273}


def test_shows_single_tokens_readably(tiny_llama: Path) -> None:
    ours = tokenizer.load(tiny_llama)
    shown = [ours.token(i) for i in ours.encode("the a é")]
    assert shown == ["th", "e", " a", " ", "Ã", "©"]
    assert ours.token(10_000) == ""


def test_offsets_cover_the_text(tiny_llama: Path) -> None:
    text = "<|im_start|>the thing"
    ids, spans = tokenizer.load(tiny_llama).offsets(text)
    assert len(ids) == len(spans)
    assert spans[0] == (0, 12)
    assert spans[-1][1] == len(text)


def test_fingerprint_follows_every_file(copy: Path, tiny_llama: Path) -> None:
    assert tokenizer.load(copy).fingerprint == tokenizer.load(tiny_llama).fingerprint
    (copy / "chat_template.jinja").write_text("{{ messages[0].content }}")
    changed = tokenizer.load(copy)
    assert changed.fingerprint != tokenizer.load(tiny_llama).fingerprint
    assert changed.render([{"role": "user", "content": "x"}], add_generation_prompt=False) == "x"


def test_a_list_of_templates_means_its_default(copy: Path) -> None:
    change(copy, chat_template=[{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}])
    assert tokenizer.load(copy).render([], add_generation_prompt=False) == "d"


def test_without_a_template_messages_are_refused(copy: Path) -> None:
    change(copy, chat_template=None)
    ours = tokenizer.load(copy)
    assert not ours.has_chat_template
    with pytest.raises(ModelError, match="no chat template"):
        ours.render([], add_generation_prompt=False)


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("tokenizer.json", None, "model.no_tokenizer"),
        ("tokenizer.json", '{"version": "1.0", "model"', "model.tokenizer_broken"),
        ("tokenizer.json", "{}", "model.tokenizer_broken"),
        ("tokenizer_config.json", "[" * 100_000, "model.json_broken"),
        ("tokenizer_config.json", "[]", "model.json_broken"),
        ("tokenizer_config.json", '{"chat_template": "{% for %}"}', "model.chat_template"),
    ],
)
def test_a_broken_folder_is_named(copy: Path, file: str, content: str | None, code: str) -> None:
    if content is None:
        (copy / file).unlink()
    else:
        (copy / file).write_text(content)
    with pytest.raises(ModelError) as error:
        tokenizer.load(copy)
    assert error.value.code == code
    assert error.value.hint


def test_a_template_may_refuse_messages(copy: Path) -> None:
    change(copy, chat_template="{{ raise_exception('roles must alternate') }}")
    with pytest.raises(DataError, match="roles must alternate"):
        tokenizer.load(copy).render([], add_generation_prompt=False)


def test_importing_it_loads_neither_mlx_nor_transformers() -> None:
    code = (
        "import sys, training.engine.models.tokenizer as t; "
        "print([m for m in ('mlx', 'mlx_lm', 'transformers', 'numpy', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
