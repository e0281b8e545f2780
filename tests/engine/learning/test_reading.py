"""What a model says of given tokens: the training's own numbers, whatever lies beside them in a batch."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from training.engine.learning import reading
from training.engine.losses import policy
from training.engine.machine.device import Device
from training.engine.models import heads, loading
from training.engine.models.heads import Head
from training.engine.rows import layouts
from training.engine.rows.batches import ByRows
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Flat, Padded, Slots
from training.engine.rows.masks import Encoded

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
ROWS = [
    Example.single(Encoded([*range(start, start + n)], [False] * 3 + [True] * (n - 3), 0))
    for start, n in ((5, 9), (40, 4), (17, 30))
]


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> nn.Module:
    loaded = loading.load(tiny_llama, "auto", CPU).model
    loaded.freeze()
    layouts.choose(loaded, 2, None, is_cpu=True)
    return loaded


@pytest.mark.parametrize("layout", [Flat(), Padded(), Padded(4), Slots(4, None)], ids=lambda x: x.name)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_every_row_as_if_it_were_alone(layout: layouts.Layout, temperature: float, model: nn.Module) -> None:
    made = reading.read(ROWS, heads.find(model), layout, ByRows(2), temperature=temperature)
    for row, said, spread in zip(ROWS, made.log_probs, made.entropy, strict=True):
        ids = mx.array([row.parts[0].ids])
        logits = model(ids)[0, 2:-1] / temperature
        expected = mx.take_along_axis(logits - mx.logsumexp(logits, axis=-1, keepdims=True), ids[0, 3:, None], axis=-1)
        assert said == pytest.approx(np.array(expected[:, 0]), abs=2e-5)
        assert spread == pytest.approx(np.array(policy.entropy(logits)), abs=2e-5)


def test_a_training_finds_the_same_log_probabilities(model: nn.Module) -> None:
    """So that the first ratio to the old ones is 1."""
    head = heads.find(model)
    for temperature in (1.0, 0.7):
        for one in (head, Head(head.body, head.project, None)):
            made = reading.read(ROWS[:1], one, Flat(), ByRows(1), temperature=temperature).log_probs[0]
            batch = Flat().lay(ROWS[:1])
            now = reading.log_probs(one, one.hidden(batch), batch.targets, temperature)
            assert mx.max(mx.abs(mx.exp(now - mx.array(made)) - 1)).item() < 5e-6


def test_values_are_those_of_each_target(model: nn.Module) -> None:
    made = reading.read(ROWS, heads.find(model), Flat(), ByRows(3), value=lambda hidden: hidden[:, 0])
    assert [len(own) for own in made.values] == [6, 1, 27]
    first = heads.find(model).body(mx.array([ROWS[0].parts[0].ids]))[0, 2:-1, 0]
    assert made.values[0] == pytest.approx(np.array(first), abs=1e-5)


def test_a_token_that_is_ruled_out_makes_no_nan() -> None:
    said, spread = reading._said(mx.array([[0.0, -np.inf, 0.0]]), mx.array([0]))
    assert said.item() == pytest.approx(-np.log(2))
    assert spread.item() == pytest.approx(np.log(2))
