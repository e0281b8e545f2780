"""Answers to prompts as texts, all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.engine.generation.rollout import Completion, Rollout
from training.engine.generation.sampling import GREEDY, Sampling
from training.engine.models.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer: its text and its number of tokens without the end token, and the seconds until it was there.

    Answers that were computed side by side share their time: three of 2 s each may have taken 2 s together.
    """

    text: str
    tokens: int
    seconds: float


def answers(
    rollout: Rollout,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    sampling: Sampling = GREEDY,
    *,
    stop: Sequence[str] = (),
    seed: int = 0,
    check: Callable[[], None] = lambda: None,
) -> list[Generated]:
    """Continue each of ``prompts`` (ids) by at most ``max_tokens`` tokens; "" for one without any.

    An answer ends at an end token, or before any text of ``stop``. ``check`` is called before each forward
    pass and may raise, so that a long answer does not hold up a stop. Raises DataError ``data.prompt_long``.
    """

    def stops(ids: list[int]) -> bool:
        text = tokenizer.decode(ids, skip_special=True)
        return any(s in text for s in stop)

    def text(row: Completion) -> Generated:
        ids = row.ids[:-1] if row.finish == "eos" else row.ids
        return Generated(_cut(tokenizer.decode(ids, skip_special=True), stop), len(ids), row.seconds)

    asked = [at for at, prompt in enumerate(prompts) if prompt]
    rows = rollout.run(
        [prompts[at] for at in asked], max_tokens, sampling, seed=seed, check=check, stop=stops if stop else None
    )
    made = dict(zip(asked, map(text, rows), strict=True))
    return [made.get(at, Generated("", 0, 0.0)) for at in range(len(prompts))]


def _cut(text: str, stop: Sequence[str]) -> str:
    """``text`` before the first of the ``stop`` texts."""
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]
