"""Float32 master weights, and that an optimizer's state survives files and compilation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from tests.engine import runs
from tests.engine.optimizer_cases import alone
from training.engine.catalog.optimizers import OPTIMIZERS, Sgd
from training.engine.errors import Exit
from training.engine.loop import checkpoint

RATE = 1e-4
EVERY = pytest.mark.parametrize("name", OPTIMIZERS.names)


class Small(nn.Module):
    """A packed matrix, one that is too small for that, a norm; the first in 16 bits."""

    def __init__(self) -> None:
        super().__init__()
        key = mx.random.split(mx.random.key(1), 3)
        self.layers = [
            {"big": mx.random.normal((72, 64), key=key[0]).astype(mx.bfloat16)},
            {"lora_a": mx.random.normal((6, 3), key=key[1]), "norm": mx.random.normal((5,), key=key[2])},
        ]


def gradients(model: nn.Module, update: int) -> Any:
    return tree_map(lambda w: mx.sin(w.astype(mx.float32) * (update + 1)), model.trainable_parameters())


def test_a_thousand_tiny_updates_of_16_bit_weights_add_up() -> None:
    """1 − 1000 · 1e-4 = 0.9; the last digit of bfloat16 below 1 is 0.004, so without masters nothing moves."""
    found = {}
    for masters in (True, False):
        model = nn.Module()
        model.w = mx.ones((4, 4), dtype=mx.bfloat16)
        optimizer = alone(Sgd(momentum=0), RATE, model, master_weights=masters)
        for _ in range(1000):
            optimizer.update(model, {"w": mx.ones((4, 4))})
            mx.eval(model.parameters(), optimizer.state)
        assert model.w.dtype == mx.bfloat16
        found[masters] = model.w[0, 0].item()
    assert found[True] == pytest.approx(0.9, abs=2e-3)
    assert found[False] == 1.0


def test_a_gradient_below_16_bits_is_not_rounded_away() -> None:
    model = nn.Module()
    model.w = mx.zeros((2, 2), dtype=mx.float16)
    optimizer = alone(Sgd(momentum=0), 1.0, model)
    optimizer.update(model, {"w": mx.full((2, 2), 1e-9)})  # 0 in float16
    assert optimizer.state["w"]["master"][0, 0].item() == pytest.approx(-1e-9)


@EVERY
def test_all_memory_is_float32_or_packed(name: str) -> None:
    model = Small()
    optimizer = alone(OPTIMIZERS[name].settings(name=name), RATE, model)
    optimizer.init(model.trainable_parameters())
    optimizer.update(model, gradients(model, 0))
    kinds = {array.dtype for path, array in tree_flatten(optimizer.state) if path != "step"}
    assert kinds <= {mx.float32, mx.int8, mx.uint8}
    assert [w.dtype for _, w in tree_flatten(model.parameters())].count(mx.bfloat16) == 1


@EVERY
def test_a_state_read_back_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    models, settings = (Small(), Small()), OPTIMIZERS[name].settings(name=name)
    one, other = (alone(settings, RATE, model) for model in models)
    for update in range(3):
        one.update(models[0], gradients(models[0], update))
    mx.save_safetensors(str(tmp_path / "s.safetensors"), dict(tree_flatten(one.state)))
    models[1].update(models[0].parameters())
    other.state = tree_unflatten(list(checkpoint._arrays(tmp_path / "s.safetensors").items()))
    other.init(models[1].trainable_parameters())
    for model, optimizer in zip(models, (one, other), strict=True):
        optimizer.learning_rate = RATE / 2
        for update in range(3, 5):
            optimizer.update(model, gradients(model, update))
    left, right = (dict(tree_flatten([m.parameters(), o.state])) for m, o in zip(models, (one, other), strict=True))
    assert left.keys() == right.keys()
    assert all(mx.array_equal(left[k], right[k]) for k in left)


@pytest.fixture
def compiling() -> Iterator[None]:
    mx.enable_compile()
    yield
    mx.disable_compile()  # as training.engine.machine.device leaves it on a CPU


@pytest.mark.parametrize("name", ["adamw", "lion_8bit", "muon", "radam"])  # a CPU takes seconds to compile one
@pytest.mark.usefixtures("compiling")
def test_compiled_it_computes_the_same(name: str) -> None:
    found = []
    for compiled in (False, True):
        model = nn.Module()
        model.w = mx.random.normal((72, 64), key=mx.random.key(1)).astype(mx.bfloat16)
        optimizer = alone(OPTIMIZERS[name].settings(name=name), RATE, model, parameter_groups=["w lr=3"])
        optimizer.init(model.trainable_parameters())
        state = [model.state, optimizer.state]

        def change(tree: Any, model: nn.Module = model, optimizer: Any = optimizer) -> None:
            optimizer.update(model, tree)

        step = mx.compile(change, inputs=state, outputs=state) if compiled else change
        for update in range(8):
            optimizer.learning_rate = RATE * (1 + update)
            step(gradients(model, update))
            mx.eval(model.parameters(), optimizer.state)
        found.append(optimizer.state["w"]["master"])
    assert mx.allclose(*found, atol=1e-6)


def test_a_training_in_16_bits_resumes_with_its_masters(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.data(tmp_path / "data")
    config = runs.request(
        tiny_llama, data, adapter="full", dtype="bfloat16", save_every=2, parameter_groups=["*norm* lr=0.5"]
    )
    assert runs.run(tmp_path / "a", config) == Exit.FINISHED
    assert runs.run(tmp_path / "b", config, halt=(3, 0), how=runs.Killed()) == Exit.BUG
    assert runs.run(tmp_path / "b", config) == Exit.FINISHED
    runs.assert_same(tmp_path / "a", tmp_path / "b", 6)
    kept = runs.arrays(tmp_path / "a", 6, "optimizer")
    weights = runs.arrays(tmp_path / "a", 6)
    masters = {name.removesuffix(".master"): a for name, a in kept.items() if name.endswith(".master")}
    assert masters.keys() == weights.keys()
    assert all(mx.array_equal(masters[k].astype(mx.bfloat16), weights[k]) for k in weights)


def test_adapters_with_frozen_matrices_are_saved_whole(tiny_llama: Path, tmp_path: Path) -> None:
    """LoRA-FA: A stays as it was drawn, and must be in the file, or another one would be drawn when it is loaded."""
    data = runs.data(tmp_path / "data")
    config = runs.request(tiny_llama, data, iters=3, parameter_groups=["*.lora_a freeze"])
    assert runs.run(tmp_path / "a", config) == Exit.FINISHED
    assert runs.run(tmp_path / "b", config, halt=(2, 0)) == Exit.STOPPED
    assert runs.run(tmp_path / "b", config) == Exit.FINISHED
    runs.assert_same(tmp_path / "a", tmp_path / "b", 3)
    first, last = runs.arrays(tmp_path / "b", 2), runs.arrays(tmp_path / "b", 3)
    assert {name.rpartition(".")[2] for name in last} == {"lora_a", "lora_b"}
    assert all(mx.array_equal(first[k], last[k]) == k.endswith("lora_a") for k in last)
