"""KTO: a prompt, one answer, and whether it is a good one. Good and bad rows need not belong together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.engine.errors import Problem
from training.engine.formats import dialogue, rules
from training.engine.formats.rules import Check

ANSWERS = ("completion", "response")
COLUMNS = (*dialogue.PROMPTS, *dialogue.BESIDE, *ANSWERS, "label")
_WORDS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def recognise(row: Mapping[str, Any]) -> str:
    """Why ``row`` looks like a judged answer, or ""."""
    prompt = next((c for c in dialogue.PROMPTS if c in row), "")
    answer = next((c for c in ANSWERS if c in row), "")
    found = prompt and answer and "label" in row
    return f"it has the columns `{prompt}`, `{answer}` and `label`" if found else ""


def normalise(row: Mapping[str, Any]) -> dict[str, Any] | list[Problem]:
    """``{"prompt": messages, "completion", "label": true | false}``, or all problems of the row."""
    check = rules.Check()
    column = next((c for c in ANSWERS if c in row), ANSWERS[0])
    before, completion = dialogue.answer(check, row, column)
    prompt = dialogue.framed(check, row, before, column) if before else dialogue.prompt(check, row)
    label = _label(check, row)
    return check.problems or {"prompt": prompt, "completion": completion, "label": label}


def _label(check: Check, row: Mapping[str, Any]) -> bool:
    if "label" not in row:
        check.add(("label",), "missing_column", "The row has no `label`.", "Write true for a good answer, else false.")
        return False
    value = row["label"]
    known = _WORDS.get(str(value).strip().lower()) if isinstance(value, bool | int | float | str) else None
    if known is None:
        shown = repr(value)[:40] if isinstance(value, int | float | str) else rules.kind(value)
        check.add(
            ("label",),
            "bad_label",
            f"`label` is {shown}, neither true nor false.",
            "Write true (or 1) for a good answer, false (or 0) for a bad one.",
        )
    return bool(known)
