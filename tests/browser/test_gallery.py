"""Every part of the design: no violation, no console line, no sideways scroll, in both themes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import violations

pytestmark = pytest.mark.browser

VIEWS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]


def visit(chromium: Browser, url: str, width: int = 1440, theme: str = "light") -> tuple[Page, list[str]]:
    """The gallery with its first chart drawn, and what the console said."""
    page = chromium.new_context(viewport={"width": width, "height": 900}).new_page()
    said: list[str] = []
    # No socket is served here; its refusal is the one line that may come.
    page.on(
        "console",
        lambda m: said.append(m.text) if m.type in {"error", "warning"} and "/ws/live" not in m.text else None,
    )
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{url}/?theme={theme}")
    page.wait_for_selector("#loss canvas")
    page.wait_for_selector("#log .line")
    return page, said


@pytest.mark.parametrize(("width", "theme"), VIEWS)
def test_the_gallery_is_clean(chromium: Browser, gallery_url: str, shots: Path, width: int, theme: str) -> None:
    page, said = visit(chromium, gallery_url, width, theme)
    page.screenshot(path=shots / f"gallery-{width}-{theme}.png", full_page=True)
    assert violations(page) == []
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


def test_no_sideways_scroll_at_320_pixels(chromium: Browser, gallery_url: str) -> None:
    page, _ = visit(chromium, gallery_url, 320)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.context.close()


def test_title_and_icon_show_the_progress(chromium: Browser, gallery_url: str) -> None:
    page, _ = visit(chromium, gallery_url)
    assert re.fullmatch(r"41.% · 14 min · Gallery · MLX Platform", page.title())
    assert page.get_attribute('link[rel="icon"]', "href").startswith("data:image/png")
    page.context.close()


def test_the_sidebar_opens_on_a_phone_and_closes_with_escape(chromium: Browser, gallery_url: str) -> None:
    page, _ = visit(chromium, gallery_url, 390)
    assert not page.is_visible("#sidebar")
    page.click("[popovertarget=sidebar]")
    assert page.is_visible("#sidebar")
    page.keyboard.press("Escape")
    assert not page.is_visible("#sidebar")
    page.context.close()


def test_the_theme_is_kept_in_a_cookie(chromium: Browser, gallery_url: str) -> None:
    page, _ = visit(chromium, gallery_url)
    page.click("[popovertarget=user-menu]")
    page.click("[data-theme-switch] [value=dark]")
    assert page.evaluate("document.cookie") == "theme=dark"
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
    page.context.close()


def test_a_dialog_returns_the_focus(chromium: Browser, gallery_url: str) -> None:
    page, _ = visit(chromium, gallery_url)
    page.focus("[data-dialog=stop-dialog]")
    page.keyboard.press("s")
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.dataset.dialog") == "stop-dialog"
    page.context.close()


def test_a_toast_is_announced(chromium: Browser, gallery_url: str) -> None:
    page, _ = visit(chromium, gallery_url)
    page.evaluate(
        "document.dispatchEvent(new CustomEvent('toast', {detail: {text: 'Moved to the trash.', undo: '/undo'}}))"
    )
    expect(page.locator("#announce")).to_have_text("Moved to the trash.")
    assert page.locator(".toast button").all_inner_texts() == ["Undo", "Close"]
    page.context.close()


def test_a_morph_keeps_folds_focus_and_charts(chromium: Browser, gallery_url: str) -> None:
    page, _ = visit(chromium, gallery_url)
    page.click("details.fold > summary")
    page.fill("#id_notes", "half a thought")
    page.evaluate(
        """async () => {
            const fresh = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
            fresh.querySelector("[data-focus]").remove(); // new errors rightly take the focus
            const main = document.querySelector("main");
            const morph = { swapStyle: "morph:outerHTML" };
            window.htmx.swap(main, fresh.querySelector("main").outerHTML, morph, { contextElement: main });
        }"""
    )
    page.wait_for_selector(".error-summary", state="detached")
    page.wait_for_selector("details.fold[open]")
    assert page.input_value("#id_notes") == "half a thought"
    assert page.evaluate("document.activeElement.id") == "id_notes"
    assert page.locator("#loss canvas").count() == 1
    page.context.close()
