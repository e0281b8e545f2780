"""ShareGPT: a list of turns with ``from`` (human, gpt, …) and ``value``, and perhaps a ``system`` column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.engine.errors import Problem
from training.engine.formats import rules

SHAPE = rules.Shape(("conversations", "conversation", "messages"), "from", "value", rules.SHAREGPT_ROLES)


def recognise(row: Mapping[str, Any]) -> str:
    """Why ``row`` looks like ShareGPT, or ""."""
    column = rules.column_of(row, SHAPE.columns, "from", "value")
    return f"column `{column}` holds turns with `from` and `value`" if column else ""


def normalise(row: Mapping[str, Any]) -> dict[str, Any] | list[Problem]:
    """``{"messages": [{"role", "content"}, …]}``, or all problems of the row."""
    check = rules.Check()
    messages = rules.conversation(check, row, SHAPE)
    system = check.text(row.get("system"), ("system",), empty=True)
    if system.strip() and messages and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return check.problems or {"messages": messages}
