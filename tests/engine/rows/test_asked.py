"""What rows of every normal form ask."""

from __future__ import annotations

from typing import Any

import pytest

from training.engine.rows import asked

USER = {"role": "user", "content": "Why?"}
SAID = {"role": "assistant", "content": "So."}


@pytest.mark.parametrize(
    ("row", "reference"),
    [
        ({"messages": [USER, SAID]}, "So."),
        ({"prompt": "Why?", "completion": "So."}, "So."),
        ({"prompt": [USER], "chosen": "So.", "rejected": "No."}, "So."),
        ({"prompt": [USER], "completion": "So.", "label": True}, "So."),
        ({"prompt": [USER], "completion": "No.", "label": False}, None),
        ({"prompt": [USER], "answer": "So."}, "So."),
        ({"prompt": [USER]}, None),
    ],
)
def test_a_row_that_asks(row: dict[str, Any], reference: str | None) -> None:
    assert asked.of(row) == asked.Asked([USER], reference)


@pytest.mark.parametrize("row", [{"text": "Why?"}, {"messages": [SAID]}, {"messages": [USER, USER]}, {"prompt": []}])
def test_a_row_that_asks_nothing(row: dict[str, Any]) -> None:
    assert asked.of(row) is None
