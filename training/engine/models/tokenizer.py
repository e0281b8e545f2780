"""A model folder's tokenizer without transformers: text to ids and back, messages to text.

Reads ``tokenizer.json`` (Hugging Face's *fast* format), ``tokenizer_config.json``,
``chat_template.jinja`` and the end tokens of ``generation_config.json`` and ``config.json``.
Loading costs about 0.1 s where transformers needs 2 s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from training.engine.errors import ModelError
from training.engine.models.chat_template import ChatTemplate

MAX_TOKENIZER_FILE = 256 << 20  # bytes; the largest in use are about 35 MB
MAX_JSON_FILE = 16 << 20
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


class Tokenizer:
    """Text to token ids and back. Never adds special tokens by itself: the chat template does."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special: dict[str, str],
        template: str | None,
        eos_ids: frozenset[int],
        fingerprint: str,
    ) -> None:
        self._backend = backend
        self._special = special
        self._template = ChatTemplate(template) if template is not None else None
        self.eos_ids = eos_ids
        self.bos_id = self._id("bos_token")
        self.pad_id = self._id("pad_token")
        self.eos_id = self._id("eos_token")
        if self.eos_id is None and eos_ids:
            self.eos_id = min(eos_ids)
        added = backend.get_added_tokens_decoder()
        self._marks = frozenset(i for i, token in added.items() if token.special) | eos_ids
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        self.fingerprint = fingerprint

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    @property
    def eos_token(self) -> str:
        """The text of the main end token, "" when the model has none."""
        if "eos_token" in self._special:
            return self._special["eos_token"]
        return next((self._backend.id_to_token(i) or "" for i in sorted(self.eos_ids)), "")

    def vocabulary(self) -> dict[str, int]:
        """Every token, text to id."""
        return dict(self._backend.get_vocab(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``; special tokens only where their text stands in it."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of ``text`` and for each the half-open range of characters it covers."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        return list(encoding.ids), list(encoding.offsets)

    def prefix(self) -> list[int]:
        """What the model family puts before plain text: the begin token, or nothing."""
        return [i for i in self._backend.encode("", add_special_tokens=True).ids if i not in self.eos_ids]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Text of ``ids``. Bytes that are no valid UTF-8 become U+FFFD."""
        return self._backend.decode(list(ids), skip_special_tokens=skip_special)

    def token(self, index: int) -> str:
        """What token ``index`` stands for, for people to look at; "" when there is no such token.

        A token that is only a part of a character is shown as the vocabulary spells it.
        """
        spelled: str | None = self._backend.id_to_token(index)
        if spelled is None:
            return ""
        if "\u2581" in spelled:  # SentencePiece's blank; decoding one token alone would drop it
            return spelled.replace("\u2581", " ")
        text = self._backend.decode([index], skip_special_tokens=False)
        return spelled if "\ufffd" in text or not text else text

    def is_special(self, index: int) -> bool:
        """Whether token ``index`` is one of the model's marks rather than text."""
        return index in self._marks

    def render(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
        """``messages`` as the one text the model was trained on.

        Raises ModelError when the model has no chat template or the template passes its limits,
        DataError when the template refuses the messages.
        """
        if self._template is None:
            raise ModelError(
                "model.no_chat_template",
                "This model has no chat template, so messages cannot be put into its words.",
                "Choose an instruction-tuned model, or a data format of plain text.",
            )
        return self._template.render(messages, add_generation_prompt=add_generation_prompt, **self._special)

    def _id(self, name: str) -> int | None:
        text = self._special.get(name)
        index: int | None = self._backend.token_to_id(text) if text is not None else None
        return index


def load(folder: Path) -> Tokenizer:
    """The tokenizer of the model folder ``folder``.

    Raises ModelError: ``model.no_tokenizer``, ``model.tokenizer_broken``, ``model.chat_template``.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            "model.no_tokenizer",
            f"The model folder {folder.name} has no tokenizer.json.",
            "Import the model again together with its tokenizer; tokenizer.model or vocab.json alone are not enough.",
        )
    if path.stat().st_size > MAX_TOKENIZER_FILE:
        raise ModelError("model.tokenizer_broken", "tokenizer.json is larger than 256 MiB.", _HINT_BROKEN)
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except BaseException as error:  # a broken file can also panic inside the Rust library
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ModelError(
            "model.tokenizer_broken", f"tokenizer.json cannot be read: {str(error)[:200]}.", _HINT_BROKEN
        ) from None
    backend.no_truncation()
    backend.no_padding()
    config = read_object(folder / "tokenizer_config.json")
    special = _special_tokens(read_object(folder / "special_tokens_map.json") | config)
    template, ends = _chat_template(folder, config), _eos_ids(folder, backend, special)
    return Tokenizer(backend, special, template, ends, _hash(folder))


_HINT_BROKEN = "The file is damaged or of an unknown kind: import the model again."


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``, {} when there is no such file.

    Raises ModelError when it is too large, no valid JSON or no object.
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_JSON_FILE:
        raise ModelError("model.json_broken", f"{path.name} is larger than 16 MiB.", _HINT_BROKEN)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError("model.json_broken", f"{path.name} is no valid JSON: {error}.", _HINT_BROKEN) from None
    if not isinstance(value, dict):
        raise ModelError("model.json_broken", f"{path.name} holds no JSON object.", _HINT_BROKEN)
    return value


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """Name to text; a token is spelled out or an object with ``content``."""
    found = {}
    for name in _SPECIAL:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        if file.stat().st_size > MAX_JSON_FILE:
            raise ModelError("model.chat_template", "chat_template.jinja is larger than 16 MiB.", _HINT_BROKEN)
        return file.read_text(encoding="utf-8", errors="replace")
    value = config.get("chat_template")
    if isinstance(value, list):  # several named ones: {"name", "template"}
        named = {row.get("name"): row.get("template") for row in value if isinstance(row, dict)}
        value = named.get("default")
    return value if isinstance(value, str) and value.strip() else None


def _eos_ids(folder: Path, backend: tokenizers.Tokenizer, special: dict[str, str]) -> frozenset[int]:
    """All tokens that end an answer: the tokenizer's own and those of the model's configuration."""
    ids = {backend.token_to_id(special["eos_token"])} if "eos_token" in special else set()
    generation, model = read_object(folder / "generation_config.json"), read_object(folder / "config.json")
    given = generation.get("eos_token_id", model.get("eos_token_id"))
    ids.update(given if isinstance(given, list) else [given])
    return frozenset(i for i in ids if isinstance(i, int) and not isinstance(i, bool) and i >= 0)


def _hash(folder: Path) -> str:
    """sha256 over the files that decide how text becomes ids; part of cache keys."""
    digest = hashlib.sha256()
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        path = folder / name
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()
