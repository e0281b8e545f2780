"""Answers to fixed prompts, so that a person sees what the training changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx import nn

from training.engine.generate import answer
from training.engine.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer; ``reference`` is the one that stands in the data, if the prompt is from there."""

    prompt: str
    text: str
    reference: str
    tokens: int
    seconds: float


class Sampler:
    """Asks the same prompts at every evaluation, greedily, so that only the weights make a difference."""

    def __init__(self, tokenizer: Tokenizer, prompts: list[tuple[list[dict[str, str]], str]], max_tokens: int) -> None:
        """``prompts`` are pairs of chat messages and the reference answer."""
        self._tokenizer, self._prompts, self._max_tokens = tokenizer, prompts, max_tokens

    @classmethod
    def of(cls, tokenizer: Tokenizer, data: Path, own: list[str] | None, max_tokens: int) -> Sampler:
        """The prompts a person chose, or the first three questions of the held-out data."""
        if max_tokens == 0:
            return cls(tokenizer, [], 0)
        if own is not None:
            return cls(tokenizer, [([{"role": "user", "content": text}], "") for text in own], max_tokens)
        for split in ("test", "valid", "train"):
            if found := _questions(data / f"{split}.jsonl", 3):
                return cls(tokenizer, found, max_tokens)
        return cls(tokenizer, [], 0)

    def answer(self, model: nn.Module, check: Callable[[], None]) -> Iterator[Sample]:
        """One sample per prompt; ``check`` is called before each token and may raise."""
        for messages, reference in self._prompts:
            check()
            ids = self._tokenizer.encode(self._text(messages))
            made = answer(model, self._tokenizer, ids, self._max_tokens, check=check)
            yield Sample(messages[-1]["content"], made.text, reference, made.tokens, made.seconds)

    def _text(self, messages: list[dict[str, str]]) -> str:
        if self._tokenizer.has_chat_template:
            return self._tokenizer.render(messages, add_generation_prompt=True)
        return messages[-1]["content"]


def _questions(path: Path, most: int) -> list[tuple[list[dict[str, str]], str]]:
    """The first rows of ``path`` that ask something, each from another part of the file."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        found = [pair for line in file if (pair := _pair(json.loads(line))) is not None]
    return found[:: max(1, len(found) // most)][:most]


def _pair(row: dict[str, Any]) -> tuple[list[dict[str, str]], str] | None:
    if "prompt" in row:
        return [{"role": "user", "content": str(row["prompt"])}], str(row["completion"])
    if "text" in row:
        start = " ".join(str(row["text"]).split()[:12])
        return ([{"role": "user", "content": start}], str(row["text"])) if start else None
    messages = row.get("messages") or []
    if len(messages) < 2 or messages[-1].get("role") != "assistant":
        return None
    return list(messages[:-1]), str(messages[-1]["content"])
