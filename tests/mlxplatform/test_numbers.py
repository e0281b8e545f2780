"""The shared table of number formats; tests/browser/test_numbers.py runs the browser's twin on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxplatform.templatetags import numbers

TABLE = json.loads((Path(__file__).parents[1] / "number_formats.json").read_text())
CASES = [(name, value, text) for name, rows in TABLE.items() for value, text in rows]


@pytest.mark.parametrize(("name", "value", "text"), CASES)
def test_a_number_is_written_as_the_table_says(name: str, value: object, text: str) -> None:
    assert getattr(numbers, name)(value).replace(numbers.NBSP, " ") == text


def test_every_format_stands_in_the_table() -> None:
    assert set(numbers.register.filters) - {"exact"} == set(TABLE)
