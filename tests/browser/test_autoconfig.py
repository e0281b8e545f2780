"""'Set up for me' in a real browser: the engine is asked, the card says why, and its link fills the form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import violations
from tests.browser.test_first_job import house, page
from tests.chaos.house import House

__all__ = ["house", "page"]
pytestmark = pytest.mark.browser


def test_a_newcomer_lets_it_be_set_up(house: House, page: Page, chromium: Browser, shots: Path) -> None:
    page.goto(f"http://127.0.0.1:{house.port}/jobs/new/")
    page.get_by_role("button", name="Set up for me").click()
    link = page.get_by_role("link", name="Use these settings")
    expect(link).to_be_visible(timeout=60_000)
    expect(page.locator("#autoconfig")).to_contain_text("A small adapter learns nearly as well")
    page.screenshot(path=shots / "autoconfig.png", full_page=True)
    assert violations(page, "#autoconfig") == []
    link.click()
    page.wait_for_url(re.compile("learning_rate=0.0002"))
    expect(page.locator("[name=learning_rate]")).to_have_value("0.0002")
    expect(page.locator("[name='adapter.rank']")).to_have_value("8")
