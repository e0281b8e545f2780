"""Event to browser within 100 ms, and exact over kills (``tests/bench/live.py`` measures)."""

from __future__ import annotations

import json

import pytest

from tests.bench.live import run

pytestmark = pytest.mark.bench


def test_fifty_sockets_at_twenty_events_a_second() -> None:
    found = run(sockets=50, rate=20, seconds=15)
    print(json.dumps(found))
    assert found["exact"] == 50
    assert found["p99_ms"] <= 100


def test_the_sequence_is_exact_over_kills_of_web_and_ingest() -> None:
    found = run(sockets=50, rate=20, seconds=20, kill=True)
    print(json.dumps(found))
    assert found["kills"] == 4
    assert found["reconnects"] >= 50
    assert found["exact"] == 50
