"""The chart on the page: live points, seams, zoom, address, table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.gallery import JOB

pytestmark = pytest.mark.browser
FIRST_ROW = "#loss tbody tr:first-child"


@pytest.fixture
def page(chromium: Browser, gallery_url: str) -> Iterator[Page]:
    """The gallery with the loss chart drawn and its table open."""
    page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(gallery_url)
    page.wait_for_selector("#loss canvas")
    page.click("#loss summary")
    page.wait_for_selector(FIRST_ROW)
    yield page
    page.context.close()


def send(page: Page, **frame: Any) -> None:
    """What live.js does with a frame."""
    detail = {"job": JOB, **frame}
    page.evaluate("detail => document.dispatchEvent(new CustomEvent(`live:${detail.t}`, {detail}))", detail)


def first_row(page: Page) -> list[str]:
    return page.locator(f"{FIRST_ROW} td").all_inner_texts()


def test_a_live_point_is_appended(page: Page) -> None:
    send(page, seq=41, t="metric", step=1250, values={"train_loss": 1.5})
    page.wait_for_selector(f"{FIRST_ROW} :text('1,250')")
    assert first_row(page) == ["1,250", "1.5000", ""]


def test_a_frame_that_the_data_already_holds_is_passed_over(page: Page) -> None:
    send(page, seq=40, t="metric", step=9999, values={"train_loss": 9})
    send(page, seq=41, t="metric", step=1250, values={"train_loss": 1.5})
    page.wait_for_selector(f"{FIRST_ROW} :text('1,250')")
    assert first_row(page)[0] == "1,250"


def test_truncate_forgets_what_comes_after_the_step(page: Page) -> None:
    send(page, seq=41, t="truncate", step=1000)
    page.wait_for_selector(f"{FIRST_ROW} :text('1,000')")
    assert first_row(page)[0] == "1,000"


def test_not_a_number_is_shown_as_a_break(page: Page) -> None:
    send(page, seq=41, t="metric", step=1250, values={"train_loss": "nan"})
    page.wait_for_selector(f"{FIRST_ROW} :text('1,250')")
    assert first_row(page)[1] == "\u2013"


def test_zoom_and_smoothing_stay_in_the_address(page: Page) -> None:
    page.locator("#loss [data-act=smooth]").fill("0.9")
    page.click("#loss [data-act=log]")
    page.click("#loss [data-act=closer]")
    address = page.url
    assert "loss=0.9%7Elog%7E621%7E1240" in address
    page.goto(address)
    page.wait_for_selector("#loss canvas")
    assert page.locator("#loss [data-act=smooth]").input_value() == "0.9"
    assert page.get_attribute("#loss [data-act=log]", "aria-pressed") == "true"
    page.click("#loss [data-act=reset]")
    assert "621" not in page.url


def test_dragging_zooms_and_a_double_click_shows_everything(page: Page) -> None:
    box = page.locator("#loss .u-over").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.25, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, y, steps=4)
    page.mouse.up()
    page.wait_for_url("**loss=0.6*")
    page.wait_for_selector("#loss .u-over")
    page.dblclick("#loss .u-over")
    page.wait_for_url(lambda url: "loss=" not in url)


def test_the_picture_is_described_in_words(page: Page) -> None:
    label = page.get_attribute("#loss canvas", "aria-label") or ""
    assert label.startswith("Loss: now Training 1.")
    assert "; best 1.7908 at step 900" in label


def test_a_line_can_be_switched_off(page: Page) -> None:
    press = page.locator("#loss .legend button").first
    press.click()
    assert press.get_attribute("aria-pressed") == "false"
