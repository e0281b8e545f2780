"""The picture of the steps and their line of time: nothing covers anything, whatever hangs on whatever."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import timeline
from pipelines.catalog import TEMPLATES
from pipelines.drawing import NODE, SPACE, WIDTHS, Drawing, depths_of, draw
from pipelines.services import template_definition
from pipelines.showing import picture

CSS = (Path(__file__).parents[2] / "mlxplatform/static/css/pipelines.css").read_text()
BEGIN = datetime(2026, 11, 23, 12, tzinfo=UTC)
Steps = dict[str, list[tuple[str, str]]]


@st.composite
def graphs(draw_from: st.DrawFn) -> Steps:
    """Steps that wait for any of those before them."""
    count = draw_from(st.integers(1, 14))
    names = [f"s{n}" for n in range(count)]
    wishes = st.sampled_from(["succeeded", "failed"])
    return {
        name: [(need, draw_from(wishes)) for need in draw_from(st.lists(st.sampled_from(names[:n]), unique=True))]
        if n
        else []
        for n, name in enumerate(names)
    }


def places(drawn: Drawing) -> dict[str, tuple[float, float]]:
    """Left and top of each step."""
    return {place.name: (place.x, place.top) for column in drawn.columns for place in column}


def edges(drawn: Drawing) -> set[tuple[str, str]]:
    return {(line.source, line.target) for line in drawn.lines}


@given(graphs())
def test_nothing_covers_anything_and_lines_go_to_the_right(steps: Steps) -> None:
    drawn = draw(steps)
    found = places(drawn)
    assert found.keys() == steps.keys()
    assert all(found[line.source][0] + drawn.node_width < found[line.target][0] for line in drawn.lines)
    for column in drawn.columns:
        tops = [place.top for place in column]
        assert all(lower - upper >= NODE + SPACE - 0.2 for upper, lower in pairwise(tops))
        assert all(place.above >= -0.2 for place in column)
    assert all(-0.2 <= top <= drawn.height - NODE + 0.7 for _, top in found.values())


@given(graphs())
def test_the_picture_says_what_waits_for_what_and_nothing_twice(steps: Steps) -> None:
    before: dict[str, set[str]] = {}
    for name, needs in steps.items():
        before[name] = {need for need, _ in needs}.union(*(before[need] for need, _ in needs))
    drawn = draw(steps)
    reached: dict[str, set[str]] = {}
    for name in sorted(steps, key=lambda name: places(drawn)[name][0]):
        direct = {line.source for line in drawn.lines if line.target == name}
        reached[name] = direct.union(*(reached[need] for need in direct))
        assert not any(one in reached[other] for one in direct for other in direct)
    assert reached == before


@given(graphs())
def test_a_line_begins_and_ends_at_its_steps(steps: Steps) -> None:
    drawn = draw(steps)
    found = places(drawn)
    for line in drawn.lines:
        numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", line.path)]
        (left, top), (to_left, to_top) = found[line.source], found[line.target]
        assert numbers[:2] == pytest.approx([left + drawn.node_width, top + NODE / 2], abs=0.2)
        assert numbers[-2:] == pytest.approx([to_left, to_top + NODE / 2], abs=0.2)


def test_a_chain_is_a_straight_line_without_what_it_implies() -> None:
    drawn = draw({"a": [], "b": [("a", "succeeded")], "c": [("a", "succeeded"), ("b", "succeeded")]})
    assert edges(drawn) == {("a", "b"), ("b", "c")}
    assert len({place.y for column in drawn.columns for place in column}) == 1 and drawn.height == NODE


def test_a_line_past_a_column_keeps_clear_of_its_steps() -> None:
    steps: Steps = {"a": [], "b": [("a", "succeeded")], "c": [("b", "succeeded")], "d": [], "e": []}
    steps["e"] = [("c", "succeeded"), ("d", "succeeded")]
    drawn = draw(steps)
    line = next(line for line in drawn.lines if line.source == "d")
    lanes = {float(y) for y in re.findall(r"L\d+ (\d+(?:\.\d+)?)", line.path)}
    tops = [place.top for column in drawn.columns[1:3] for place in column]
    assert lanes and all(not top < lane < top + NODE for lane in lanes for top in tops)


def test_steps_that_wait_for_each_other_stand_last() -> None:
    assert depths_of({"a": [], "b": ["c"], "c": ["b"], "d": ["gone", "a"]}) == {"a": 0, "b": 2, "c": 2, "d": 1}


@pytest.mark.parametrize("name", TEMPLATES.names)
def test_every_template_fits_on_a_screen(name: str) -> None:
    assert picture(template_definition(name)).width <= 1140


@pytest.mark.parametrize(("most", "width", "space"), WIDTHS)
def test_the_style_sheet_has_the_same_measures(most: int, width: int, space: int) -> None:
    assert f".g-{width} {{ gap: {space}px; }} .g-{width} .column {{ width: {width}px; }}" in CSS
    assert f"height: {NODE}px" in re.search(r"^\.node \{.*$", CSS, re.M).group()  # type: ignore[union-attr]


def after(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def test_bars_are_shares_of_the_whole() -> None:
    made = timeline.bars(BEGIN, after(200), [("wait", after(0), after(50)), ("run", after(50), after(200))])
    assert [(bar.look, bar.x, bar.width, bar.seconds) for bar in made] == [("wait", 0, 25, 50), ("run", 25, 75, 150)]


@given(st.lists(st.tuples(st.floats(-10, 2000), st.floats(-10, 2000))), st.floats(0, 1000))
def test_no_bar_is_invisible_or_beyond_the_edge(spans: list[tuple[float, float]], whole: float) -> None:
    for bar in timeline.bars(BEGIN, after(whole), [("run", after(a), after(b)) for a, b in spans]):
        assert bar.width >= timeline.LEAST and bar.x >= 0 and bar.x + bar.width <= 100.001


@given(st.floats(0, 1e8))
def test_ticks_are_few_and_in_order(seconds: float) -> None:
    made = timeline.ticks(seconds)
    assert made[0] == (0, "0") and len(made) <= timeline.TICKS + 1
    places = [place for place, _ in made]
    assert all(0 <= place <= 100 for place in places) and places == sorted(set(places))


def test_ticks_are_told_in_round_words() -> None:
    assert [words for _, words in timeline.ticks(26 * 60)] == ["0", "10\u00a0min", "20\u00a0min"]
    assert [words for _, words in timeline.ticks(7 * 1800)][-1] == "3\u00a0h"
    assert timeline.ticks(7)[-1][1] == "6\u00a0s"
