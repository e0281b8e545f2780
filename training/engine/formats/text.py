"""Plain text: one ``text`` per row, all of it trained, as in continued pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.engine.errors import Problem
from training.engine.formats import rules


def recognise(row: Mapping[str, Any]) -> str:
    """Why ``row`` looks like plain text, or ""."""
    return "it has the column `text`" if isinstance(row.get("text"), str) else ""


def normalise(row: Mapping[str, Any]) -> dict[str, Any] | list[Problem]:
    """``{"text"}``, or all problems of the row."""
    check = rules.Check()
    text = rules.need(check, row, "text")
    return check.problems or {"text": text}
