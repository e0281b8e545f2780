"""The browser's number formats on the table that the server's were tested with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

TABLE = json.loads((Path(__file__).parents[1] / "number_formats.json").read_text())


def test_the_browser_writes_numbers_as_the_server_does(script: Page) -> None:
    written = script.evaluate(
        """async (table) => {
            const { formats } = await import("/static/js/numbers.js");
            const write = (name, value) => formats[name](value).replaceAll("\\u00a0", " ");
            const again = ([name, rows]) => [name, rows.map(([value]) => [value, write(name, value)])];
            return Object.fromEntries(Object.entries(table).map(again));
        }""",
        TABLE,
    )
    assert written == TABLE
