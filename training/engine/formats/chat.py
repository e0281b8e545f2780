"""Chat: a list of turns with ``role`` and ``content``, the form of the OpenAI API and of mlx-lm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.engine.errors import Problem
from training.engine.formats import rules

SHAPE = rules.Shape(("messages", "conversations", "conversation"), "role", "content", rules.CHAT_ROLES)


def recognise(row: Mapping[str, Any]) -> str:
    """Why ``row`` looks like a chat, or ""."""
    column = rules.column_of(row, SHAPE.columns, "role", "content")
    return f"column `{column}` holds turns with `role` and `content`" if column else ""


def normalise(row: Mapping[str, Any]) -> dict[str, Any] | list[Problem]:
    """``{"messages": [{"role", "content"}, …]}``, or all problems of the row."""
    check = rules.Check()
    messages = rules.conversation(check, row, SHAPE)
    return check.problems or {"messages": messages}
