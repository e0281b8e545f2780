"""Lets a model answer prompts, as methods need it that train on what the model itself writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine.errors import DataError
from training.engine.generation.rollout import Rollout
from training.engine.generation.sampling import Sampling
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows import asked, masks
from training.engine.rows.asked import Asked
from training.engine.rows.examples import Example
from training.engine.rows.masks import Encoded

ROOM = 32768  # tokens whose keys and values are held at once


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model wrote. ``ids`` hold the end token, if it ``ended`` by one instead of being cut."""

    asked: Asked
    prompt: list[int]
    ids: list[int]
    text: str
    ended: bool

    @property
    def tokens(self) -> int:
        """Tokens without the end token."""
        return len(self.ids) - self.ended

    def example(self, *, trains: bool = True) -> Example:
        """Prompt and answer to be trained on: every token of the answer, or none."""
        trained = [False] * len(self.prompt) + [trains] * len(self.ids)
        return Example.single(Encoded([*self.prompt, *self.ids], trained, 0))


def prompt(row: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int) -> Example:
    """A data row, in any normal form, as a prompt; without tokens if it asks nothing or is too long.

    A prompt is never cut: without its end it is another one.
    """
    one = asked.of(row)
    ids = masks.prompt(one.prompt, tokenizer) if one is not None else []
    if one is None or len(ids) > max_seq_length:
        return Example.single(Encoded([], [], 0))
    kept = {"prompt": one.prompt} | ({"answer": one.reference} if one.reference is not None else {})
    return Example((Encoded(ids, [False] * len(ids), 0),), row=kept)


def asked_by(example: Example) -> Asked:
    """What a prompt of :func:`prompt` asks."""
    assert example.row is not None, "prompt() keeps the row"
    return Asked(example.row["prompt"], example.row.get("answer"))


class Answering:
    """Answers of at most ``max_tokens`` tokens to ``prompts``, all those that will ever come.

    Raises DataError ``data.prompt_long`` where one does not fit into the model's context together with its answer.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer, sampling: Sampling, max_tokens: int, prompts: Sequence[Example]
    ) -> None:
        context = getattr(getattr(model, "args", None), "max_position_embeddings", None)
        longest = max((len(one.parts[0].ids) for one in prompts), default=0) + max_tokens
        if isinstance(context, int) and longest > context:
            raise DataError(
                "data.prompt_long",
                f"The longest prompt has {longest - max_tokens} tokens; with {max_tokens} new ones that is beyond "
                f"the model's context, {context}.",
                "Lower max_seq_length, which leaves longer prompts out, or max_completion_length.",
            )
        self._tokenizer, self._sampling, self._max_tokens = tokenizer, sampling, max_tokens
        self._rollout = Rollout(model, tokenizer.eos_ids, tokens=max(ROOM, longest))

    def answers(
        self, prompts: Sequence[Example], samples: int, seed: Sequence[int], check: Callable[[], None]
    ) -> list[Answer]:
        """``samples`` answers to each prompt, in their order; the same for the same ``seed`` and weights."""
        ids = [one.parts[0].ids for one in prompts]
        made = self._rollout.run(ids, self._max_tokens, self._sampling, samples=samples, seed=seed, check=check)
        mx.clear_cache()  # keys and values are gone; learning needs other sizes
        found = []
        for one in made:
            ended = one.finish == "eos"
            text = self._tokenizer.decode(one.ids[:-1] if ended else one.ids, skip_special=True)
            found.append(Answer(asked_by(prompts[one.prompt]), ids[one.prompt], one.ids, text, ended))
        return found
