"""Terminal output as harmless pieces."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

CASES = [
    ("plain", [["plain", ""]]),
    ("\x1b[31mred\x1b[0m done", [["red", "ansi-1"], [" done", ""]]),
    ("\x1b[1;92mgood", [["good", "ansi-2 ansi-bold"]]),
    ("\x1b[38;5;208mx\x1b[39my", [["x", ""], ["y", ""]]),
    ("a\x1b[2Kb\x1b]0;title\x07c", [["a", ""], ["b", ""], ["c", ""]]),
    ("\x00\x08\u202eabc", [["abc", ""]]),
]


@pytest.mark.parametrize(("text", "pieces"), CASES)
def test_escapes_become_classes_or_go(script: Page, text: str, pieces: list[list[str]]) -> None:
    call = "async (t) => (await import('/static/js/ansi.js')).ansi(t).map((p) => [p.text, p.look])"
    assert script.evaluate(call, text) == pieces


def test_a_line_written_over_shows_its_last_version(script: Page) -> None:
    assert script.evaluate("async () => (await import('/static/js/ansi.js')).fold('10%\\r50%\\r')") == "50%"


def test_an_absurd_line_is_cut_with_its_length(script: Page) -> None:
    shown = script.evaluate("async () => (await import('/static/js/ansi.js')).fold('x'.repeat(30000))")
    assert shown.endswith("… (10000 more characters)")
