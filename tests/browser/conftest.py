"""A Chromium for the browser tests: Debian's, by its path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from mlxplatform import assets
from mlxplatform.middleware import POLICY
from tests.browser import gallery
from tests.browser.program import ARGS, CHROMIUM


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests; each test takes its own context."""
    assets.build()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def gallery_url() -> Iterator[str]:
    """The gallery of all parts, under the policy of the real pages."""
    server, url = gallery.serve(POLICY)
    yield url
    server.shutdown()


@pytest.fixture(scope="module")
def script(chromium: Browser, gallery_url: str) -> Iterator[Page]:
    """An empty page of the site's origin, to import our modules in."""
    # Only the modules are of interest here: their tests bring their own sockets, on other ports.
    page = chromium.new_context(bypass_csp=True).new_page()
    page.goto(f"{gallery_url}/empty")
    yield page
    page.context.close()


@pytest.fixture(scope="session")
def shots() -> Path:
    """The git-ignored folder of the screenshots."""
    folder = Path(__file__).parent / "shots"
    folder.mkdir(exist_ok=True)
    return folder
