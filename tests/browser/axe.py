"""Accessibility as a test: axe-core on a page that has a strict policy."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Page

SCRIPT = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Page, within: str = "html") -> list[str]:
    """One line per violation ``within`` an element, with the first one it concerns; empty is good.

    The script goes in through the debugger, because the page's policy rightly refuses it.
    """
    call = f"axe.run({json.dumps(within)}, {{runOnly: {json.dumps(RULES)}}}).then(r => JSON.stringify(r.violations))"
    session = page.context.new_cdp_session(page)
    source = f"{SCRIPT.read_text()};{call}"
    answer = session.send("Runtime.evaluate", {"expression": source, "awaitPromise": True, "returnByValue": True})
    return [f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:200]}" for v in json.loads(answer["result"]["value"])]
