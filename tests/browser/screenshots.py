"""The README's pictures, taken of a running dashboard and its newest training that succeeded.

``make demo`` in one terminal, ``make screenshots`` in another. Nothing in the pictures is made up.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.program import ARGS, CHROMIUM

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "images"
BASE = f"http://{os.environ.get('MLXP_HOST', '127.0.0.1')}:{os.environ.get('MLXP_PORT', '8500')}"


def main() -> None:
    """Sign in by a one-time link and take job page and form in both themes."""
    TARGET.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "manage.py", "signin_link"]
    link = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        page = browser.new_context(viewport={"width": 1440, "height": 1080}).new_page()
        page.goto(link)
        page.get_by_role("button").first.click()
        page.goto(f"{BASE}/jobs/?state=succeeded&kind=train")
        address = page.locator("table a[href^='/jobs/']").first.get_attribute("href")
        for theme in ("light", "dark"):
            page.context.add_cookies([{"name": "theme", "value": theme, "url": BASE}])
            _take(page, f"{BASE}{address}", f"job-{theme}")
            _take(page, f"{BASE}/jobs/new/", f"new-{theme}")
        browser.close()


def _take(page: Page, url: str, name: str) -> None:
    page.goto(url)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=TARGET / f"{name}.png")
    print(TARGET / f"{name}.png")


if __name__ == "__main__":
    main()
