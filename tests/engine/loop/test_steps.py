"""The arithmetic of an update: compiled as on a GPU it is the one that runs as it reads."""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import mlx.optimizers as mo
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from tests.engine.examples import one
from tests.fakes import families
from training.engine.catalog.adapters import ADAPTERS
from training.engine.catalog.supervised_methods import Sft as Settings
from training.engine.loop.steps import Steps
from training.engine.methods.sft import Sft
from training.engine.models import recompute
from training.engine.rows.layouts import Slots, choose
from training.engine.tuning import adapters

ROWS = [one([(7 * i + n) % 90 for i in range(n)], [False] + [True] * (n - 1), 0) for n in (9, 30, 5, 12, 21)]


@pytest.fixture
def compiling() -> Iterator[None]:
    """A CPU compiles, too, if it is asked to."""
    mx.enable_compile()
    yield
    mx.disable_compile()


def trained(adapter: str, *, compiled: bool, checkpoint: bool = False) -> tuple[list[float], nn.Module]:
    mx.random.seed(0)
    model = families.make("llama")
    adapters.apply(model, ADAPTERS[adapter].settings(name=adapter))
    if checkpoint:
        recompute.recompute_blocks(model)
    layout, _ = choose(model, 2, None, is_cpu=False)
    assert isinstance(layout, Slots)
    method, optimizer = Sft(Settings()), mo.AdamW(1e-2)
    method.prepare(model)
    optimizer.init(model.trainable_parameters())
    steps = Steps(model, method, optimizer, longest=1.0, seam=None, compiled=compiled)
    model.train()
    numbers = []
    for rows in (ROWS[:2], ROWS[2:4], ROWS[:2]):
        one, other = layout.lay(rows), layout.lay(ROWS[3:])
        first, gradients = steps.micro_batch(one, None)
        second, gradients = steps.micro_batch(other, gradients)
        numbers += [first["loss"], second["loss"], steps.update(gradients, one.tokens + other.tokens, 1e-2)]
    model.eval()
    return [*numbers, steps.terms(layout.lay(ROWS[1:3]))["loss"]], model


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize(("adapter", "checkpoint"), [("lora", False), ("full", True)])
def test_compiled_steps_are_the_plain_ones(adapter: str, checkpoint: bool) -> None:
    (plain, one), (made, other) = (trained(adapter, compiled=c, checkpoint=checkpoint) for c in (False, True))
    assert np.array(made) == pytest.approx(np.array(plain), rel=1e-4)
    assert plain[6] < plain[0]
    weights = dict(tree_flatten(one.parameters()))
    assert all(mx.allclose(weights[k], w, atol=1e-4) for k, w in tree_flatten(other.parameters()))
