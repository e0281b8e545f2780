"""AdamW in 8 bits against AdamW in 32: the same course, a quarter of the memory, nothing lost by a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from tests.engine import optimizer_cases, runs
from training.engine.catalog.optimizers import AdamW, AdamW8Bit
from training.engine.errors import Exit
from training.engine.loop import checkpoint
from training.engine.optimizers import eight_bit
from training.engine.optimizers.eight_bit import _SIGNED, _UNSIGNED, BLOCK, pack, unpack

RATE = 1e-2
SHAPE = (72, 64)  # 36 blocks


@pytest.fixture
def problem() -> tuple[mx.array, mx.array, mx.array]:
    """Least squares: inputs of very unequal size, outputs of known weights, where to begin."""
    mx.random.seed(0)
    x = mx.random.normal((200, SHAPE[0])) * mx.exp(mx.random.normal((SHAPE[0],)))
    return x, x @ mx.random.normal(SHAPE), mx.random.normal(SHAPE) * 0.1


def loss(w: mx.array, x: mx.array, y: mx.array) -> mx.array:
    return mx.mean(mx.square(x @ w - y))


def descend(settings: Any, problem: tuple[mx.array, mx.array, mx.array], steps: int) -> list[mx.array]:
    """The weights after each update."""
    x, y, w = problem
    optimizer, gradient, course = optimizer_cases.alone(settings, RATE), mx.grad(loss), []
    for step in range(steps):
        part = slice(step % 4 * 50, step % 4 * 50 + 50)
        w = optimizer.apply_gradients({"w": gradient(w, x[part], y[part])}, {"w": w})["w"]
        mx.eval(w, optimizer.state)
        course.append(w)
    return course


def test_fifty_updates_follow_adamw(problem: tuple[mx.array, mx.array, mx.array]) -> None:
    whole, packed = (descend(kind(), problem, 50) for kind in (AdamW, AdamW8Bit))
    moved = mx.linalg.norm(whole[-1] - problem[2])
    assert (mx.linalg.norm(packed[-1] - whole[-1]) / moved).item() < 0.03
    start, one, other = (loss(w, *problem[:2]).item() for w in (problem[2], whole[-1], packed[-1]))
    assert other == pytest.approx(one, rel=0.01)
    assert one < 0.8 * start


def memory(settings: Any, shape: tuple[int, ...]) -> int:
    optimizer = optimizer_cases.alone(settings, RATE)
    optimizer.init({"w": mx.zeros(shape)})
    return sum(a.nbytes for name, a in tree_flatten(optimizer.state) if name.startswith("w."))


@pytest.mark.parametrize("shape", [(512, 512), (4097,), (3, 70, 65)])
def test_its_memory_is_at_most_three_tenths(shape: tuple[int, ...]) -> None:
    assert memory(AdamW8Bit(), shape) <= 0.3 * memory(AdamW(), shape)


def test_small_arrays_are_not_packed() -> None:
    assert memory(AdamW8Bit(), (63, 65)) == memory(AdamW(), (63, 65))


@pytest.mark.parametrize("law", [_SIGNED, _UNSIGNED])
def test_rounding_keeps_the_mean(law: tuple[int, int]) -> None:
    x = mx.square(mx.random.normal((4 * BLOCK,), key=mx.random.key(1)))
    total = mx.zeros_like(x)
    for step in range(400):
        total += unpack(*pack(x, law, eight_bit._shares((4, BLOCK), mx.array(step))), law, x)
    kept = x > 1e-4 * x.max()  # a square below the lowest code is held there
    assert mx.where(kept, mx.abs(total / 400 / x - 1), 0).max().item() < 0.02


def test_a_mean_of_squares_comes_down_slowly() -> None:
    """One of two numbers falls by a thousandth an update; to the nearest code it would never move."""
    x = mx.zeros((BLOCK,)) + mx.array([1.0, 0.5] * (BLOCK // 2))
    slow = mx.array([1.0, 0.999] * (BLOCK // 2))
    for step in range(700):
        x = unpack(*pack(x * slow, _UNSIGNED, eight_bit._shares((1, BLOCK), mx.array(step))), _UNSIGNED, x)
    assert x[1::2].mean().item() == pytest.approx(0.5 * 0.999**700, rel=0.05)


def test_no_square_above_zero_is_forgotten() -> None:
    x = mx.array([1.0, 1e-20, 0.0] + [0.5] * (BLOCK - 3))
    codes, _ = pack(x, _UNSIGNED, mx.full((1, BLOCK), 0.99))
    assert codes[0, :3].tolist() == [255, 1, 0]


def test_weights_without_a_gradient_stay() -> None:
    optimizer = optimizer_cases.alone(AdamW8Bit(weight_decay=0), RATE)
    w = start = mx.random.normal(SHAPE, key=mx.random.key(2))
    gradient = mx.random.normal(SHAPE, key=mx.random.key(3)) * (mx.arange(SHAPE[0]) % 3 > 0)[:, None]
    for _ in range(5):
        w = optimizer.apply_gradients({"w": gradient}, {"w": w})["w"]
    moved = mx.abs(w - start).max(axis=1)
    assert [m > 0 for m in moved.tolist()] == [i % 3 > 0 for i in range(SHAPE[0])]


def test_sixteen_bit_weights_keep_their_format() -> None:
    optimizer = optimizer_cases.alone(AdamW8Bit(), RATE)
    w = {"w": mx.ones(SHAPE, dtype=mx.bfloat16)}
    w = optimizer.apply_gradients({"w": mx.ones(SHAPE, dtype=mx.bfloat16)}, w)
    assert w["w"].dtype == mx.bfloat16
    assert w["w"][0, 0].item() == pytest.approx(1 - RATE, abs=4e-3)
    assert optimizer.state["w"]["v_scale"].dtype == mx.float32


def test_compiled_it_computes_the_same(problem: tuple[mx.array, mx.array, mx.array]) -> None:
    optimizer = optimizer_cases.alone(AdamW8Bit(), RATE)
    tree = {"w": problem[2]}
    optimizer.init(tree)
    state = [tree, optimizer.state]

    def change(gradient: mx.array) -> None:
        tree.update(optimizer.apply_gradients({"w": gradient}, tree))

    mx.enable_compile()
    try:
        compiled = mx.compile(change, inputs=state, outputs=state)
        for part in range(3):
            compiled(problem[2] * (part + 1))
        mx.eval(state)
    finally:
        mx.disable_compile()  # as training.engine.machine.device leaves it on a CPU
    assert mx.abs(tree["w"] - _by_hand(problem[2])).max().item() < 1e-6


def _by_hand(start: mx.array) -> mx.array:
    optimizer, w = optimizer_cases.alone(AdamW8Bit(), RATE), {"w": start}
    for part in range(3):
        w = optimizer.apply_gradients({"w": start * (part + 1)}, w)
    return w["w"]


def test_a_state_read_back_goes_on_bit_for_bit(problem: tuple[mx.array, mx.array, mx.array], tmp_path: Path) -> None:
    one, other = (optimizer_cases.alone(AdamW8Bit(), RATE) for _ in range(2))
    w = one.apply_gradients({"w": problem[2]}, {"w": problem[2]})
    mx.save_safetensors(str(tmp_path / "s.safetensors"), dict(tree_flatten(one.state)))
    other.state = tree_unflatten(list(checkpoint._arrays(tmp_path / "s.safetensors").items()))
    assert mx.array_equal(one.apply_gradients(w, w)["w"], other.apply_gradients(w, w)["w"])


def test_a_training_resumes_as_if_nothing_had_been(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.data(tmp_path / "data")
    config = runs.request(tiny_llama, data, adapter="full", optimizer="adamw_8bit", learning_rate=1e-3, save_every=2)
    assert runs.run(tmp_path / "a", config) == Exit.FINISHED
    assert runs.run(tmp_path / "b", config, halt=(3, 0), how=runs.Killed()) == Exit.BUG
    assert runs.run(tmp_path / "b", config) == Exit.FINISHED
    runs.assert_same(tmp_path / "a", tmp_path / "b", 6)
    assert any(a.dtype == mx.uint8 for a in runs.arrays(tmp_path / "a", 6, "optimizer").values())
