"""Prompts out of rows, and what a model answers to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlx import nn

from tests.engine import method_data, runs
from training.engine.errors import DataError
from training.engine.generation import answering
from training.engine.generation.answering import Answering
from training.engine.generation.sampling import Sampling
from training.engine.machine.device import Device
from training.engine.models import loading
from training.engine.models.tokenizer import Tokenizer, load
from training.engine.rows import masks

CPU = Device("cpu", "test", 1 << 30, "", 1, True)


@pytest.fixture(scope="module")
def words(tiny_llama: Path) -> Tokenizer:
    return load(tiny_llama)


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> nn.Module:
    return loading.load(tiny_llama, "auto", CPU).model


def test_every_form_that_asks_becomes_a_prompt(words: Tokenizer) -> None:
    for form, reference in (("prompts", "9"), ("chat", "3 is so much and 9."), ("preference", "3 is so much and 9.")):
        one = answering.prompt(method_data.row(form, 3), words, 64)
        asked = answering.asked_by(one)
        assert one.parts[0].ids == masks.prompt([{"role": "user", "content": "What is 3?"}], words)
        assert not any(one.parts[0].trained)
        assert asked.reference == reference


def test_what_asks_nothing_or_too_much_is_left_out(words: Tokenizer) -> None:
    assert not answering.prompt({"text": "Once upon a time"}, words, 64).parts[0].ids
    row = runs.chat("What is " + "that " * 20 + "?", "9")
    assert not answering.prompt(row, words, 40).parts[0].ids
    assert answering.prompt(row, words, 200).parts[0].ids


def test_answers_stand_in_the_order_of_the_prompts(model: nn.Module, words: Tokenizer) -> None:
    prompts = [answering.prompt(method_data.row("prompts", i), words, 64) for i in (3, 100, 2)]
    made = Answering(model, words, Sampling(), 5, prompts).answers(prompts, 2, (1, 2), lambda: None)
    assert [one.prompt for one in made] == [p.parts[0].ids for p in prompts for _ in range(2)]
    assert made[0].ids != made[1].ids
    for one in made:
        whole = one.example()
        assert whole.parts[0].ids == one.prompt + one.ids
        assert whole.targets == len(one.ids) == one.tokens + one.ended
        assert one.example(trains=False).targets == 0
        assert one.ended == (one.ids[-1] in words.eos_ids)
    again = Answering(model, words, Sampling(), 5, prompts).answers(prompts, 2, (1, 2), lambda: None)
    assert [one.ids for one in again] == [one.ids for one in made]


def test_an_answer_beyond_the_context_is_refused_at_once(model: nn.Module, words: Tokenizer) -> None:
    prompts = [answering.prompt(method_data.row("prompts", 3), words, 64)]
    with pytest.raises(DataError) as refused:
        Answering(model, words, Sampling(), 2048, prompts)
    assert refused.value.code == "data.prompt_long"
    assert "2048" in refused.value.message
