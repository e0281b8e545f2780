"""Answers: greedy as without a cache, ends where it should, leaves the random stream alone."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from training.engine import generate, models, tokenizer
from training.engine.device import Device
from training.engine.models import Loaded
from training.engine.tokenizer import Tokenizer

PROMPT = [5, 260, 17, 99, 3]


@pytest.fixture(scope="module")
def loaded(tiny_llama: Path) -> Loaded:
    return models.load(tiny_llama, "auto", Device("cpu", "test", 1 << 30, "", 1, True))


@pytest.fixture
def words(tiny_llama: Path) -> Tokenizer:
    return tokenizer.load(tiny_llama)


def greedy(loaded: Loaded, count: int) -> list[int]:
    """Without any cache: the whole text again for every token."""
    ids = list(PROMPT)
    for _ in range(count):
        ids.append(int(mx.argmax(loaded.model(mx.array([ids]))[0, -1]).item()))
    return ids[len(PROMPT) :]


def test_is_greedy_and_its_cache_changes_nothing(loaded: Loaded, words: Tokenizer) -> None:
    words.eos_ids = frozenset()
    made = generate.answer(loaded.model, words, PROMPT, 12)
    assert made.text == words.decode(greedy(loaded, 12), skip_special=True)
    assert made.tokens == 12
    assert made.seconds > 0


def test_a_long_prompt_is_read_in_pieces(loaded: Loaded, words: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = generate.answer(loaded.model, words, PROMPT, 8)
    monkeypatch.setattr(generate, "_PREFILL", 2)
    assert generate.answer(loaded.model, words, PROMPT, 8).text == whole.text


def test_ends_at_an_end_token(loaded: Loaded, words: Tokenizer) -> None:
    expected = greedy(loaded, 12)
    words.eos_ids = frozenset({expected[4]})
    made = generate.answer(loaded.model, words, PROMPT, 12)
    assert made.tokens == expected.index(expected[4])


def test_ends_before_a_stop_text(loaded: Loaded, words: Tokenizer) -> None:
    words.eos_ids = frozenset()
    text = generate.answer(loaded.model, words, PROMPT, 12).text
    stop = text[5:7]
    assert generate.answer(loaded.model, words, PROMPT, 12, stop=[stop]).text == text[: text.find(stop)]


def test_drawing_follows_its_seed_and_not_the_training(loaded: Loaded, words: Tokenizer) -> None:
    def draw(seed: int) -> str:
        return generate.answer(loaded.model, words, PROMPT, 12, temperature=1.0, seed=seed).text

    before = mx.array(mx.random.state[0])
    assert draw(1) == draw(1)
    assert len({draw(i) for i in range(4)}) > 1
    assert mx.array_equal(before, mx.random.state[0])


@pytest.mark.parametrize(("prompt", "count"), [(PROMPT, 0), ([], 5)])
def test_nothing_asked_is_nothing_said(loaded: Loaded, words: Tokenizer, prompt: list[int], count: int) -> None:
    assert generate.answer(loaded.model, words, prompt, count).text == ""


def test_a_stop_is_heard_between_two_tokens(loaded: Loaded, words: Tokenizer) -> None:
    words.eos_ids = frozenset()
    heard: list[int] = []

    def check() -> None:
        heard.append(1)
        if len(heard) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        generate.answer(loaded.model, words, PROMPT, 4096, check=check)
    assert len(heard) == 3
