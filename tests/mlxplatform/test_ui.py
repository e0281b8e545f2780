"""The template tags: what they print, and that nothing in them can carry markup."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlxplatform.assets import ICONS
from mlxplatform.templatetags import ui
from pipelines.states import RunState, StepState
from training.states import AttemptState, JobState

TEMPLATES = Path(__file__).parents[2] / "templates"


@pytest.mark.parametrize("name", [*JobState.values, *AttemptState.values, *RunState.values, *StepState.values])
def test_every_state_has_a_look_and_a_shape(name: str) -> None:
    shown = ui.state(name)
    assert name in ui.STATES
    assert shown["shape"] in ICONS


def test_progress_says_percent_and_what_is_left() -> None:
    shown = ui.progress(1240, 3000, text="about 14 minutes left")
    assert shown["valuetext"] == "41 percent, about 14 minutes left"


def test_progress_without_a_total_is_not_started() -> None:
    assert ui.progress(None, None)["valuetext"] == "not started"


def test_progress_never_passes_the_end() -> None:
    assert ui.progress(5, 4)["valuetext"] == "100 percent"


def test_a_falling_loss_is_better() -> None:
    assert ">\u22120.3100 better<" in ui.delta(-0.31)
    assert ">+0.3100 better<" in ui.delta(0.31, lower_is_better=False)


def test_a_sparkline_needs_two_points() -> None:
    assert ui.sparkline([1.0, "nan"]) == ""
    assert 'points="0.0,2.0 120.0,26.0"' in ui.sparkline([2, 1])


def test_a_label_is_escaped() -> None:
    assert "<script>" not in ui.icon("trash", '"><script>')


def test_a_moment_is_utc_with_a_machine_form() -> None:
    shown = ui.when(datetime(2026, 11, 22, 10, 5, tzinfo=UTC))
    assert 'datetime="2026-11-22T10:05:00Z"' in shown


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: path.name)
def test_no_template_needs_inline_code(path: Path) -> None:
    text = path.read_text()
    assert " style=" not in text
    assert " onclick=" not in text
    assert "<script>" not in text.replace("&lt;script&gt;", "")
    assert "hx-on" not in text
