"""The log on the page: harmless text, following, earlier lines, search."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.gallery import JOB

pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium: Browser, gallery_url: str) -> Iterator[Page]:
    """The gallery with its log read."""
    page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(gallery_url)
    page.wait_for_selector("#log .line")
    yield page
    page.context.close()


def test_markup_and_colours_are_only_text(page: Page) -> None:
    line = page.locator("#log .line", has_text="alert(1)")
    assert line.inner_text() == "warning: <script>alert(1)</script> is only text"
    assert line.locator("span.ansi-3").inner_text() == "warning"


def test_a_line_written_over_stands_once(page: Page) -> None:
    expect(page.locator("#log .line", has_text="|")).to_have_text("100%|#####|")


def test_an_error_is_marked(page: Page) -> None:
    expect(page.locator("#log .line.error")).to_have_text("error: one line that is wrong")


def test_reading_again_doubles_nothing(page: Page) -> None:
    lines = page.locator("#log .line").count()
    ring = "job => document.dispatchEvent(new CustomEvent('live:log', {detail: {job}}))"
    with page.expect_response("**/log?*"):
        page.evaluate(ring, JOB)
    expect(page.locator("#log .line")).to_have_count(lines)


def test_scrolling_up_stops_following(page: Page) -> None:
    page.hover("#log .lines")
    page.mouse.wheel(0, -400)
    follow = page.locator("#log [data-act=follow]")
    expect(follow).to_have_attribute("aria-pressed", "false")
    follow.click()
    expect(follow).to_have_attribute("aria-pressed", "true")


def test_search_counts_and_steps_through(page: Page) -> None:
    search = page.locator("#log input[type=search]")
    search.fill("2.01")
    expect(page.locator("#log .count")).to_have_text("2 lines found")
    search.press("Enter")
    expect(page.locator("#log .count")).to_have_text("1 of 2")
