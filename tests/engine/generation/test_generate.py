"""Answers as texts: greedy as without a cache, end where they should, hear a stop."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from training.engine.generation import generate
from training.engine.generation.rollout import Rollout
from training.engine.generation.sampling import Sampling
from training.engine.machine.device import Device
from training.engine.models import loading, tokenizer
from training.engine.models.loading import Loaded
from training.engine.models.tokenizer import Tokenizer

PROMPT, OTHER = [5, 260, 17, 99, 3], [7, 8]


@pytest.fixture(scope="module")
def loaded(tiny_llama: Path) -> Loaded:
    return loading.load(tiny_llama, "auto", Device("cpu", "test", 1 << 30, "", 1, True))


@pytest.fixture(scope="module")
def endless(loaded: Loaded) -> Rollout:
    return Rollout(loaded.model, ())


@pytest.fixture(scope="module")
def words(tiny_llama: Path) -> Tokenizer:
    return tokenizer.load(tiny_llama)


def greedy(loaded: Loaded, count: int) -> list[int]:
    """Without any cache: the whole text again for every token."""
    ids = list(PROMPT)
    for _ in range(count):
        ids.append(int(mx.argmax(loaded.model(mx.array([ids]))[0, -1]).item()))
    return ids[len(PROMPT) :]


def test_is_greedy_and_in_the_order_of_the_prompts(loaded: Loaded, endless: Rollout, words: Tokenizer) -> None:
    other, made = generate.answers(endless, words, [OTHER, PROMPT], 12)
    assert made.text == words.decode(greedy(loaded, 12), skip_special=True)
    assert other.text != made.text
    assert made.tokens == 12
    assert made.seconds > 0


def test_ends_at_an_end_token(loaded: Loaded, words: Tokenizer) -> None:
    expected = greedy(loaded, 12)
    made = generate.answers(Rollout(loaded.model, [expected[4]]), words, [PROMPT], 12)[0]
    assert made.tokens == expected.index(expected[4])
    assert made.text == words.decode(expected[: made.tokens], skip_special=True)


def test_ends_before_a_stop_text(endless: Rollout, words: Tokenizer) -> None:
    text = generate.answers(endless, words, [PROMPT], 12)[0].text
    stop = text[5:7]
    assert generate.answers(endless, words, [PROMPT], 12, stop=[stop])[0].text == text[: text.find(stop)]


def test_drawing_follows_its_seed(endless: Rollout, words: Tokenizer) -> None:
    def draw(seed: int) -> str:
        return generate.answers(endless, words, [PROMPT], 12, Sampling(1.0), seed=seed)[0].text

    assert draw(1) == draw(1)
    assert len({draw(i) for i in range(4)}) > 1


@pytest.mark.parametrize(("prompts", "count"), [([PROMPT], 0), ([[]], 5), ([], 5)])
def test_nothing_asked_is_nothing_said(
    endless: Rollout, words: Tokenizer, prompts: list[list[int]], count: int
) -> None:
    assert [made.text for made in generate.answers(endless, words, prompts, count)] == [""] * len(prompts)


def test_a_stop_is_heard_between_two_tokens(endless: Rollout, words: Tokenizer) -> None:
    heard: list[int] = []

    def check() -> None:
        heard.append(1)
        if len(heard) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        generate.answers(endless, words, [PROMPT], 4096, check=check)
    assert len(heard) == 3
