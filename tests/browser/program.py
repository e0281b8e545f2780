"""Which Chromium the browser tests start, and how."""

from __future__ import annotations

import os

CHROMIUM = os.environ.get("MLXP_TEST_CHROMIUM", "/usr/bin/chromium")
ARGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
