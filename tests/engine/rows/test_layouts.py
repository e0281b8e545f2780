"""Rows on one axis, in slots or padded: the same sums, family by family, and never another row's tokens."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx import nn
from mlx.utils import tree_flatten

from tests.engine.examples import one
from tests.fakes import families
from training.engine.catalog.supervised_methods import Sft as Settings
from training.engine.methods.sft import Sft
from training.engine.models import recompute
from training.engine.rows import layouts, segments
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Batch, Flat, Padded, Slots

LAYOUTS = [Flat(), Slots(4, None), Slots(1, 64), Padded(4)]


def encoded(length: int, salt: int) -> Example:
    ids = [(7 * i + 11 * salt) % families.VOCABULARY for i in range(length)]
    return one(ids, [False] + [i % 3 != 2 for i in range(1, length)], 0)


ROWS = [encoded(n, i) for i, n in enumerate((9, 2, 14, 5))]
Result = tuple[float, dict[str, mx.array]]


def result(model: nn.Module, batch: Batch, **settings: Any) -> Result:
    method = Sft(Settings(**settings))
    method.prepare(model)
    with segments.cut(batch.cuts):
        value, gradients = nn.value_and_grad(model, lambda b: method.loss(model, b)["loss"])(batch)
    return float(value.item()), dict(tree_flatten(gradients))


def assert_same(one: Result, other: Result, within: float = 3e-6) -> None:
    assert one[0] == pytest.approx(other[0], rel=within)
    scale = max(mx.abs(g).max().item() for g in one[1].values())
    assert all(mx.abs(one[1][k] - other[1][k]).max().item() <= within * scale for k in one[1])


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("family", families.SHARING)
def test_every_layout_gives_the_loss_and_gradients_of_padding(family: str, layout: layouts.Layout) -> None:
    model = families.make(family)
    segments.install(model)
    model.train()
    assert_same(result(model, Padded().lay(ROWS)), result(model, layout.lay(ROWS)))


@pytest.mark.parametrize("family", families.SHARING)
def test_rotary_families_share_one_axis(family: str) -> None:
    model = families.make(family)
    chosen, why = layouts.choose(model, 4, None, is_cpu=True)
    assert (chosen.name, why) == ("flat", "")
    assert layouts.choose(model, 4, 64, is_cpu=False)[0].name == "slots"


@pytest.mark.parametrize("family", families.APART)
def test_others_are_padded_and_the_reason_is_said(family: str) -> None:
    model = families.make(family)
    chosen, why = layouts.choose(model, 4, None, is_cpu=True)
    assert chosen.name == "padded"
    assert why
    model.train()
    method = Sft(Settings())
    method.prepare(model)
    alone = sum(float(method.loss(model, chosen.lay([row]))["loss"].item()) for row in ROWS)
    assert float(method.loss(model, chosen.lay(ROWS))["loss"].item()) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("layout", [Flat(), Slots(4, None)], ids=lambda layout: layout.name)
def test_a_row_never_sees_another(layout: layouts.Layout) -> None:
    model = families.make("gemma3_text")
    segments.install(model)

    def first(other: int) -> mx.array:
        batch = layout.lay([ROWS[0], encoded(30, other)])
        with segments.cut(batch.cuts):
            return model(batch.ids)[0, : ROWS[0].length]

    assert mx.array_equal(first(1), first(2))


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "mixtral"])
def test_long_rows_go_in_steps(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.make(family)
    segments.install(model)
    model.train()
    whole = result(model, Flat().lay(ROWS))
    monkeypatch.setattr(segments, "STEP", 4)
    assert_same(whole, result(model, Flat().lay(ROWS)))


@pytest.mark.parametrize("layout", [Flat(), Slots(4, None)], ids=lambda layout: layout.name)
def test_computing_blocks_twice_changes_nothing(layout: layouts.Layout) -> None:
    plain, twice = families.make("llama"), families.make("llama")
    recompute.recompute_blocks(twice)
    for model in (plain, twice):
        segments.install(model)
        model.train()
    assert_same(result(plain, layout.lay(ROWS)), result(twice, layout.lay(ROWS)))


@given(st.lists(st.integers(1, 90), min_size=1, max_size=9), st.sampled_from([None, 64, 256]))
@settings(max_examples=60, deadline=None)
def test_slots_hold_every_token_once_and_a_filling(lengths: list[int], budget: int | None) -> None:
    batch = Slots(4, budget).lay([encoded(n, i) for i, n in enumerate(lengths)])
    assert isinstance(batch.cuts, segments.BySlot)
    slots, back = np.array(batch.cuts.slots).reshape(-1), np.array(batch.cuts.back)
    total = sum(lengths)
    assert (slots[back[:total]] == np.arange(total)).all()
    assert batch.ids.size > total
    assert slots.size > total
    assert sorted(slots[slots < total].tolist()) == list(range(total))
    assert (back[total:] == slots.size - 1).all()
    assert slots[-1] == batch.ids.size - 1


def test_shapes_are_few() -> None:
    random = np.random.default_rng(0)
    layout, shapes = Slots(1, 4096), set()
    for _ in range(50):
        longest = int(random.integers(20, 1000))
        rows = [encoded(longest, i) for i in range(4000 // longest)]
        batch = layout.lay(rows)
        shapes.add((batch.ids.shape, batch.cuts.slots.shape))  # type: ignore[union-attr]
    assert len(shapes) <= 10


@pytest.mark.parametrize(("budget", "length"), [(100, 100), (50, 50), (20, 64), (None, 64)])
def test_the_axis_is_as_long_as_the_budget_unless_a_row_is_longer(budget: int | None, length: int) -> None:
    assert Slots(1, budget).lay([encoded(30, 0)]).ids.size == length


def test_a_batch_tells_what_it_holds() -> None:
    batch = Flat().lay([one([5, 6, 7], [False, False, True], 0), one([8, 9], [False, True], 0)])
    assert batch.ids.tolist() == [[5, 6, 7, 8, 9]]
    assert (batch.at.tolist(), batch.targets.tolist(), batch.row.tolist()) == ([1, 3], [7, 9], [0, 1])
    assert (batch.tokens, batch.total) == (2, 5)


def test_padding_is_on_the_right_and_untrained() -> None:
    batch = Padded().lay([encoded(4, 0), one([1, 2], [False, True], 0)])
    assert batch.ids.tolist()[1] == [1, 2, 0, 0]
    assert batch.at.tolist()[-1] == 4
    wide = Padded(4).lay([encoded(4, 0)])
    assert wide.ids.shape == (4, 64)
    assert wide.counted.sum().item() == wide.tokens


def test_a_batch_without_targets_costs_nothing_and_is_no_nan() -> None:
    model = families.make("llama")
    model.train()
    loss, gradients = result(model, Flat().lay([one([1, 2, 3], [False] * 3, 0)]))
    assert loss == 0
    assert all(mx.abs(g).max().item() == 0 for g in gradients.values())
