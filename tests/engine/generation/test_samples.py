"""Samples: all prompts at once, the same texts as one by one, with whatever model is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlx import nn

from tests.engine import method_data, runs
from training.engine.generation.samples import Sample, Sampler
from training.engine.machine.device import Device
from training.engine.models import loading, tokenizer

OWN = ["What is this?", "", "A much longer question, about nothing at all."]


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> nn.Module:
    return loading.load(tiny_llama, "auto", Device("cpu", "test", 1 << 30, "", 1, True)).model


def ask(folder: Path, model: nn.Module, own: list[str] | None, tokens: int = 12) -> list[Sample]:
    return list(Sampler.of(tokenizer.load(folder), folder, own, tokens).answer(model, lambda: None))


def test_texts_are_those_of_one_by_one(tiny_llama: Path, model: nn.Module) -> None:
    together = ask(tiny_llama, model, OWN)
    alone = [ask(tiny_llama, model, [text])[0] for text in OWN]
    assert [(s.prompt, s.text, s.tokens) for s in together] == [(s.prompt, s.text, s.tokens) for s in alone]
    assert len({s.text for s in together}) == 3


def test_the_held_out_rows_are_asked_with_their_references(tiny_llama: Path, model: nn.Module, tmp_path: Path) -> None:
    data = runs.data(tmp_path, train=runs.rows(9), valid=runs.rows(4))
    made = list(Sampler.of(tokenizer.load(tiny_llama), data, None, 4).answer(model, lambda: None))
    assert [s.prompt for s in made] == ["What is 0?", "What is 1?", "What is 2?"]
    assert made[1].reference == runs.rows(4)[1]["messages"][1]["content"]


def test_the_weights_of_the_moment_answer(tiny_llama: Path, tiny_qwen3: Path, model: nn.Module) -> None:
    sampler = Sampler.of(tokenizer.load(tiny_llama), tiny_llama, OWN, 12)
    first = [s.text for s in sampler.answer(model, lambda: None)]
    other = loading.load(tiny_qwen3, "auto", Device("cpu", "test", 1 << 30, "", 1, True)).model
    assert [s.text for s in sampler.answer(other, lambda: None)] != first
    assert [s.text for s in sampler.answer(model, lambda: None)] == first


def test_no_tokens_asked_is_no_sample(tiny_llama: Path, model: nn.Module) -> None:
    assert ask(tiny_llama, model, OWN, tokens=0) == []


def test_a_prompt_beyond_the_usual_room_is_answered(
    tiny_llama: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ask(tiny_llama, model, OWN)
    monkeypatch.setattr("training.engine.generation.samples.ROOM", 1)
    assert [s.text for s in ask(tiny_llama, model, OWN)] == [s.text for s in expected]


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_questions_of_other_formats_are_asked_too(method: str, tiny_llama: Path, tmp_path: Path) -> None:
    data = method_data.data(tmp_path / "data", method, train=6)
    sampler = Sampler.of(tokenizer.load(tiny_llama), data, None, 4)
    assert [prompt[-1]["content"] for prompt, _ in sampler._prompts] == ["What is 0?", "What is 2?", "What is 4?"]
    assert all(reference for _, reference in sampler._prompts)
