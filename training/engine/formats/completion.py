"""Prompt and completion: what the model is given and what it shall write.

Stays a pair in the normal form. A model with a chat template sees it as one question and one
answer, a model without one as plain text: the prompt with the completion right behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.engine.errors import Problem
from training.engine.formats import rules

PAIRS = (("prompt", "completion"), ("prompt", "response"), ("question", "answer"))


def _pair(row: Mapping[str, Any]) -> tuple[str, str] | None:
    return next(((p, c) for p, c in PAIRS if p in row and c in row), None)


def recognise(row: Mapping[str, Any]) -> str:
    """Why ``row`` looks like prompt and completion, or ""."""
    pair = _pair(row)
    return f"it has the columns `{pair[0]}` and `{pair[1]}`" if pair else ""


def normalise(row: Mapping[str, Any]) -> dict[str, Any] | list[Problem]:
    """``{"prompt", "completion"}``, or all problems of the row."""
    check = rules.Check()
    prompt_column, completion_column = _pair(row) or PAIRS[0]
    prompt = rules.need(check, row, prompt_column)
    completion = rules.need(check, row, completion_column)
    return check.problems or {"prompt": prompt, "completion": completion}
