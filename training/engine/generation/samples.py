"""Answers to fixed prompts, so that a person sees what the training changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx import nn

from training.engine.generation.generate import answers
from training.engine.generation.rollout import Rollout
from training.engine.models.tokenizer import Tokenizer

_REFERENCES = ("chosen", "completion", "answer")
ROOM = 8192  # tokens whose keys and values are held at once: a training has other uses for its memory


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer; ``reference`` is the one that stands in the data, if the prompt is from there.

    ``seconds`` until it was there; the prompts are answered side by side and share that time.
    """

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
        self._rollout: Rollout | None = None

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
        """One sample per prompt; ``check`` is called before each step of all of them and may raise."""
        if not self._prompts:
            return
        check()
        prompts = [self._tokenizer.encode(self._text(messages)) for messages, _ in self._prompts]
        if self._rollout is None or self._rollout.model is not model:
            # However long a person's own prompt is, it is answered, if need be alone.
            longest = max(map(len, prompts)) + self._max_tokens
            self._rollout = Rollout(model, self._tokenizer.eos_ids, tokens=max(ROOM, longest))
        made = answers(self._rollout, self._tokenizer, prompts, self._max_tokens, check=check)
        for (messages, reference), one in zip(self._prompts, made, strict=True):
            yield Sample(messages[-1]["content"], one.text, reference, one.tokens, one.seconds)

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
    if isinstance(row.get("prompt"), list):  # of a preference, a judged answer, or a question alone
        return list(row["prompt"]), str(next((row[key] for key in _REFERENCES if row.get(key)), ""))
    if "prompt" in row:
        return [{"role": "user", "content": str(row["prompt"])}], str(row["completion"])
    if "text" in row:
        start = " ".join(str(row["text"]).split()[:12])
        return ([{"role": "user", "content": start}], str(row["text"])) if start else None
    messages = row.get("messages") or []
    if len(messages) < 2 or messages[-1].get("role") != "assistant":
        return None
    return list(messages[:-1]), str(messages[-1]["content"])
