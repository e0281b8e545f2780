"""Statistics and tables of the bench suite, on figures that can be checked by hand."""

from __future__ import annotations

import pytest

from tests.bench import cuda, page, run, table
from tests.bench.rows import CPU_ROWS, select
from tests.bench.run import Run, Step
from tests.bench.table import Column, Spread


def made(row: str, number: int, second: float) -> Run:
    """Three steps of 10 tokens, one of them the first; the last alone is in the second epoch."""
    steps = [Step(9.0, 10, 0.5, 3.0), Step(second, 10, 1.0, 2.0), Step(second / 2, 10, 1.5, 1.0)]
    return Run(row, number, steps, first_s=9.0)


def test_rates_know_epochs_and_the_first_step() -> None:
    one = made("a", 1, 2.0)
    assert one.rate_after_first == pytest.approx(20 / 3)
    assert one.rate(0, 1) == pytest.approx(20 / 11)
    assert one.rate(1) == pytest.approx(10)
    assert Run("a").rate() is None


def test_the_late_rate_is_that_of_the_second_half_of_the_time() -> None:
    steps = [Step(9, 1, 0.1), Step(4, 8, 0.2), Step(2, 8, 0.3), Step(2, 8, 0.4)]
    assert Run("a", steps=steps).late_rate == pytest.approx(4)


def test_the_last_epochs_loss_is_weighted_by_tokens() -> None:
    steps = [Step(1, 10, 1.0, 9.0), Step(1, 30, 1.5, 1.0), Step(1, 10, 2.0, 2.0)]
    assert Run("a", steps=steps).last_loss == pytest.approx(1.25)


def test_a_ratio_is_taken_within_a_round() -> None:
    # The machine was ten times slower in the second round: medians over all rounds would say 5.5.
    runs = [made("base", 1, 2.0), made("ours", 1, 1.0), made("base", 2, 20.0), made("ours", 2, 10.0)]
    found = table.ratio(runs, "ours", "base", lambda r: r.rate_after_first)
    assert found == Spread(2.0, 2.0, 2.0, 2)


def test_without_a_shared_round_the_medians_are_compared() -> None:
    runs = [made("base", 1, 2.0), made("ours", 2, 1.0)]
    assert table.ratio(runs, "ours", "base", lambda r: r.rate_after_first) == Spread(2.0, 2.0, 2.0, 1)


def test_a_first_round_gives_way_to_later_ones() -> None:
    runs = [made("a", 1, 2.0), made("b", 1, 2.0), made("a", 2, 1.0)]
    assert cuda.settled(runs) == runs[1:]


def test_a_disturbed_measurement_says_so() -> None:
    assert table.disturbed([Run("a", others=0.04)]) == []
    assert "up to 60 %" in table.disturbed([Run("a", others=0.04), Run("b", others=0.6)])[0]


def test_a_table_shows_ranges_ratios_and_reasons() -> None:
    runs = [made("base", 1, 2.0), made("base", 2, 4.0), made("ours", 1, 1.0), Run("gone", skipped="no network")]
    columns = [
        Column("speed", lambda r: r.rate_after_first),
        Column("to base", lambda r: r.rate_after_first, " ×", to_base=True),
    ]
    rows = [("base", "Base"), ("ours", "Ours"), ("gone", "Gone"), ("never", "Never asked")]
    shown = table.markdown(runs, rows, columns, "base").splitlines()
    assert shown[2] == "| Base | 5.00 (3.33–6.67) | 1.00 × (1.00–1.00) |"
    assert shown[3] == "| Ours | 13.3 | 2.00 × |"
    assert shown[4] == "| Gone | not run: no network | |"
    assert len(shown) == 5


@pytest.mark.parametrize(("value", "text"), [(0.1234, "0.12"), (12.34, "12.3"), (123.4, "123"), (51421.0, "51,421")])
def test_numbers_have_three_figures(value: float, text: str) -> None:
    assert table.number(value) == text


def test_runs_come_back_from_the_file_as_they_were(tmp_path) -> None:
    kept = [made("a", 1, 2.0), Run("b", skipped="no")]
    for one in kept:
        run.append(tmp_path / "r.jsonl", one)
    assert run.read(tmp_path / "r.jsonl") == kept


def test_a_section_is_replaced_between_its_markers_only() -> None:
    text = "# A\n<!-- x begins -->\nold\n<!-- x ends -->\nrest\n"
    assert page.replace(text, "x", "new\n") == "# A\n<!-- x begins -->\nnew\n<!-- x ends -->\nrest\n"
    with pytest.raises(ValueError, match="no section 'y'"):
        page.replace(text, "y", "new")


@pytest.mark.parametrize("section", ["bench cpu", "bench cuda", "bench overhead"])
def test_the_page_has_the_sections_that_are_written(section: str) -> None:
    assert page.replace(page.PAGE.read_text(), section, "x")


def test_rows_are_selected_by_name() -> None:
    assert [row.name for row in select(CPU_ROWS, "ours, mlx-lm")] == ["mlx-lm", "ours"]
    with pytest.raises(SystemExit, match="no row warp"):
        select(CPU_ROWS, "warp")
