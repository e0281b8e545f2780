"""Rollouts: side by side as one by one, greedy and drawn, with the log-probabilities of a plain forward pass."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from tests.fakes import families
from training.engine.catalog.adapters import Lora
from training.engine.errors import DataError
from training.engine.generation import rollout, row_caches
from training.engine.generation.rollout import Completion, Rollout
from training.engine.generation.sampling import GREEDY, Sampling
from training.engine.machine.device import Device
from training.engine.models import loading
from training.engine.tuning import adapters

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
ALL = [*families.SHARING, *families.APART]
LENGTHS = (5, 3, 40, 17, 23, 1, 17)


@functools.cache
def build(family: str) -> nn.Module:
    model = families.make(family)
    model.eval()
    return model


@pytest.fixture(scope="module")
def llama() -> nn.Module:
    return build("llama")


def prompts(*lengths: int) -> list[list[int]]:
    draw = np.random.default_rng(1)
    return [draw.integers(1, families.VOCABULARY, n).tolist() for n in lengths or LENGTHS]


def plain(model: nn.Module, prompt: list[int], count: int) -> list[int]:
    """Greedy without any cache: the whole text again for every token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(mx.argmax(model(mx.array([ids]))[0, -1]).item()))
    return ids[len(prompt) :]


def ids(done: list[Completion]) -> list[list[int]]:
    return [row.ids for row in done]


def test_the_families_that_stand_side_by_side() -> None:
    batched = {family: Rollout(build(family), ()).batched for family in ALL}
    alone = {family for family, yes in batched.items() if not yes}
    # Their attention or their state takes the padding in: found by trying, so a new mlx-lm may shorten this.
    assert alone == {"gemma2", "mamba"}


@pytest.mark.parametrize("family", ALL)
def test_side_by_side_is_as_one_by_one(family: str) -> None:
    """All at once, and three at a time: then the other four come in as these end."""
    model, asked = build(family), prompts()
    expected = [plain(model, prompt, 10) for prompt in asked]
    for rows in (64, 3):
        done = Rollout(model, (), rows=rows).run(asked, 10, GREEDY)
        assert ids(done) == expected
        assert {row.finish for row in done} == {"length"}


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "mamba"])
def test_rows_end_and_others_take_their_place(family: str) -> None:
    model, asked = build(family), prompts(5, 3, 20, 17, 9, 1, 12)
    expected = [plain(model, prompt, 14) for prompt in asked]
    ends = {expected[0][6], expected[2][3]}
    done = Rollout(model, ends, rows=3).run(asked, 14, GREEDY)
    for row, whole in zip(done, expected, strict=True):
        cut = next((at + 1 for at, token in enumerate(whole) if token in ends), len(whole))
        assert row.ids == whole[:cut]
        assert row.finish == ("eos" if row.ids[-1] in ends else "length")
    assert {row.finish for row in done} == {"eos", "length"}


@pytest.mark.parametrize("how", [GREEDY, Sampling(0.7), Sampling(1.3, top_k=20, top_p=0.9, min_p=0.02)])
def test_log_probs_are_those_of_a_plain_forward_pass(llama: nn.Module, how: Sampling) -> None:
    """Before the filters, at the temperature; of the model itself when greedy."""
    asked = prompts()
    for row in Rollout(llama, ()).run(asked, 10, how, samples=2):
        prompt = asked[row.prompt]
        logits = llama(mx.array([prompt + row.ids]))[0, len(prompt) - 1 : -1] / (how.temperature or 1)
        expected = nn.log_softmax(logits, axis=-1)[mx.arange(10), mx.array(row.ids)]
        assert row.logprobs.dtype == np.float32
        np.testing.assert_allclose(row.logprobs, np.array(expected), atol=1e-4)


def test_a_draw_depends_on_seed_prompt_and_sample_only(llama: nn.Module) -> None:
    asked, how = prompts(), Sampling(1.0)
    whole = Rollout(llama, ()).run(asked, 10, how, samples=3, seed=5)
    assert [(row.prompt, row.sample) for row in whole] == [(p, s) for p in range(len(asked)) for s in range(3)]
    few = Rollout(llama, (), rows=4).run(asked[:4], 6, how, samples=2, seed=5)
    by_place = {(row.prompt, row.sample): row.ids for row in whole}
    assert all(row.ids == by_place[row.prompt, row.sample][:6] for row in few)
    assert len({tuple(row.ids) for row in whole}) > 15
    assert ids(Rollout(llama, ()).run(asked, 10, how, samples=3, seed=(5, 1))) != ids(whole)


def test_the_trainings_random_stream_is_left_alone(llama: nn.Module) -> None:
    before = mx.array(mx.random.state[0])
    Rollout(llama, ()).run(prompts(), 5, Sampling(1.0), seed=1)
    assert mx.array_equal(before, mx.random.state[0])


def test_what_is_drawn_is_what_the_model_says(llama: nn.Module) -> None:
    count = 4000
    done = Rollout(llama, (), rows=500).run([[7, 8, 9]], 1, Sampling(1.0), samples=count, seed=2)
    seen = np.bincount([row.ids[0] for row in done], minlength=families.VOCABULARY)
    expected = count * np.array(mx.softmax(llama(mx.array([[7, 8, 9]]))[0, -1]))
    often = expected >= 5
    chi_square = float(np.sum((seen - expected)[often] ** 2 / expected[often]))
    degrees = int(often.sum()) - 1
    assert chi_square < degrees + 4 * np.sqrt(2 * degrees)


def test_a_family_with_a_running_state_goes_one_by_one() -> None:
    model, asked = build("mamba"), prompts(5, 3, 9)
    rows = Rollout(model, (), rows=8)
    assert not rows.batched
    drawn = rows.run(asked, 6, Sampling(1.0), samples=2, seed=4)
    assert len({tuple(row.ids) for row in drawn}) == 6


def test_an_adapter_in_training_is_used_without_dropout(tiny_llama: Path) -> None:
    model = loading.load(tiny_llama, "auto", CPU).model
    adapters.apply(model, Lora(rank=4, dropout=0.5), quantized=False)
    for name, value in tree_flatten(model.trainable_parameters()):
        if name.endswith("lora_b"):
            value += 0.1
    model.train()
    first = Rollout(model, ()).run([[5, 6, 7]], 8, GREEDY)
    assert model.training
    model.eval()
    assert ids(first) == [plain(model, [5, 6, 7], 8)]


def test_greedy_is_as_mlx_lms_own(llama: nn.Module) -> None:
    from mlx_lm.generate import generate_step

    asked = prompts(9, 30)
    theirs = [[int(token) for token, _ in generate_step(mx.array(p), llama, max_tokens=16)] for p in asked]
    assert ids(Rollout(llama, ()).run(asked, 16, GREEDY)) == theirs


def test_stop_ends_a_row(llama: nn.Module) -> None:
    done = Rollout(llama, ()).run(prompts(4, 6), 20, GREEDY, stop=lambda row: len(row) == 3)
    assert [(len(row.ids), row.finish) for row in done] == [(3, "stop"), (3, "stop")]


def test_memory_bounds_what_is_held(llama: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, held = prompts(), []
    step = row_caches.Reader.step
    monkeypatch.setattr(
        row_caches.Reader,
        "step",
        lambda self, tokens, caches: (held.append(tokens.size * (caches[0].size() + 1)), step(self, tokens, caches))[1],
    )
    done = Rollout(llama, (), tokens=110).run(asked, 10, GREEDY)
    assert max(held) <= 110
    assert ids(done) == [plain(llama, prompt, 10) for prompt in asked]


def test_a_long_prompt_is_read_in_pieces(llama: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Rollout(llama, ()).run(prompts(), 8, GREEDY)
    monkeypatch.setattr(rollout, "_PASS", 9)
    assert ids(Rollout(llama, ()).run(prompts(), 8, GREEDY)) == ids(whole)


def test_asking_ahead_changes_nothing(llama: nn.Module) -> None:
    """As on a GPU, where a step is asked for before the one before it is read."""
    expected = Rollout(llama, [9, 11], rows=4).run(prompts(), 20, Sampling(0.9), samples=2)
    ahead = Rollout(llama, [9, 11], rows=4)
    ahead._host, ahead._ahead = False, 1
    done = ahead.run(prompts(), 20, Sampling(0.9), samples=2)
    assert ids(done) == ids(expected)
    assert [row.finish for row in done] == [row.finish for row in expected]


@pytest.mark.parametrize(("asked", "count"), [([], 5), ([[1, 2]], 0)])
def test_nothing_asked_is_nothing_said(llama: nn.Module, asked: list[list[int]], count: int) -> None:
    assert ids(Rollout(llama, ()).run(asked, count, GREEDY)) == [[] for _ in asked]


@pytest.mark.parametrize(
    ("asked", "settings", "code", "said"),
    [
        ([[1], []], {}, "data.prompt_empty", "Prompt 2 of 2"),
        ([[1], [2] * 30], {"context": 32}, "data.prompt_long", "the model's context, 32"),
        ([[2] * 30], {"tokens": 33}, "data.prompt_long", "held at once, 33"),
    ],
)
def test_prompts_that_cannot_be_are_refused(
    llama: nn.Module, asked: list[list[int]], settings: dict[str, Any], code: str, said: str
) -> None:
    with pytest.raises(DataError) as refused:
        Rollout(llama, (), **settings).run(asked, 5, GREEDY)
    assert refused.value.code == code
    assert said in refused.value.message


def test_a_stop_is_heard_between_two_tokens(llama: nn.Module) -> None:
    heard: list[int] = []

    def check() -> None:
        heard.append(1)
        if len(heard) == 3:
            raise InterruptedError

    llama.train()
    with pytest.raises(InterruptedError):
        Rollout(llama, ()).run(prompts(4, 4), 4096, GREEDY, check=check)
    assert len(heard) == 3
    assert llama.training
    llama.eval()
