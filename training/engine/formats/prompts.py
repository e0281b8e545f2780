"""Prompts: questions to which the model writes its own answers, with a reference ``answer`` to check them by.

What counts as right is the reward's business: a worked solution that ends in ``#### 42`` stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.engine.errors import Problem
from training.engine.formats import dialogue, rules

PROMPTS = (*dialogue.PROMPTS, "problem")
ANSWERS = ("answer", "solution", "ground_truth")
COLUMNS = (*PROMPTS, *dialogue.BESIDE, *ANSWERS)
#: With one of these, the row says what shall be learnt, and is of another format.
_OTHERS = (
    "completion",
    "response",
    "output",
    "chosen",
    "rejected",
    "messages",
    "conversations",
    "conversation",
    "text",
)


def recognise(row: Mapping[str, Any]) -> str:
    """Why ``row`` looks like a prompt, or "". A ``question`` with its ``answer`` is left to be learnt as it is."""
    column = next((c for c in ("prompt", "problem") if c in row), "")
    if not column or any(row.get(other) is not None for other in _OTHERS):
        return ""
    answer = next((c for c in ANSWERS if c in row), "")
    return f"it has the columns `{column}` and `{answer}`" if answer else f"it has a `{column}` and nothing to learn"


def normalise(row: Mapping[str, Any]) -> dict[str, Any] | list[Problem]:
    """``{"prompt": messages, "answer"?}``, or all problems of the row."""
    check = rules.Check()
    prompt = dialogue.prompt(check, row, PROMPTS)
    column = next((c for c in ANSWERS if row.get(c) is not None), "")
    value = row.get(column)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)  # sums and counts are often written as numbers
    answer = check.text(value, (column,)) if column else None
    return check.problems or ({"prompt": prompt} if answer is None else {"prompt": prompt, "answer": answer})
