"""The numbers behind a chart."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def run(script: Page, body: str) -> Any:
    """Evaluate ``body`` with the module's names in reach."""
    return script.evaluate(
        f"async () => {{ const {{ Series, align, positive, smooth }} = await import('/static/js/series.js'); {body} }}"
    )


def test_a_step_that_comes_again_replaces_its_point(script: Page) -> None:
    body = "const s = new Series(); s.put(1, 3); s.put(2, 2); s.put(1, 4); return [s.step, s.last];"
    assert run(script, body) == [[1, 2], [4, 2]]


def test_a_late_step_is_put_in_order(script: Page) -> None:
    assert run(script, "const s = new Series(); s.put(5, 1); s.put(3, 2); return s.step;") == [3, 5]


def test_truncate_forgets_what_comes_after(script: Page) -> None:
    body = "const s = new Series(); [1, 2, 3].forEach((n) => s.put(n, n)); s.truncate(2); return [s.step, s.max];"
    assert run(script, body) == [[1, 2], [1, 2]]


def test_nan_is_a_break_and_never_the_best(script: Page) -> None:
    body = "const s = new Series(); s.put(1, 'nan'); s.put(2, 1.5); s.put(3, 0.5); return [s.last, s.best()];"
    assert run(script, body) == [[None, 1.5, 0.5], {"step": 3, "value": 0.5}]


def test_smoothing_starts_at_the_first_value(script: Page) -> None:
    assert run(script, "return smooth([1, 2, 3], [4, 4, 4], 0.9)") == pytest.approx([4, 4, 4])


def test_smoothing_is_the_debiased_average(script: Page) -> None:
    # m1 = .5*2, m2 = .5*m1 + .5*4; divided by 1-.5 and 1-.25
    assert run(script, "return smooth([1, 2], [2, 4], 0.5)") == pytest.approx([2.0, 2.5 / 0.75])


def test_smoothing_does_not_depend_on_density(script: Page) -> None:
    body = """const dense = [], wide = [], f = (s) => s < 50 ? 0 : 1;
        for (let s = 0; s <= 100; s += 1) dense.push(s);
        for (let s = 0; s <= 100; s += 2) wide.push(s);
        return [smooth(dense, dense.map(f), 0.9, 1).at(-1), smooth(wide, wide.map(f), 0.9, 1).at(-1)];"""
    dense, wide = run(script, body)
    assert dense == pytest.approx(wide, abs=0.02)


def test_smoothing_zero_is_the_raw_line(script: Page) -> None:
    assert run(script, "return smooth([1, 2], [2, 4], 0)") == [2, 4]


def test_alignment_keeps_breaks_and_joins_the_rest(script: Page) -> None:
    body = """const [x, a, b] = align([{step: [1, 2], values: [5, null]}, {step: [2, 3], values: [7, 8]}]);
        return [x, a.map((v) => v === undefined ? "none" : v), b.map((v) => v === undefined ? "none" : v)];"""
    assert run(script, body) == [[1, 2, 3], [5, None, "none"], ["none", 7, 8]]


def test_a_log_scale_breaks_at_zero(script: Page) -> None:
    assert run(script, "return positive([1, 0, -1, null])") == [1, None, None, None]
