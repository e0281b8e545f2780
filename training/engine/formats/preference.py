"""Preference: one prompt with two answers, of which the ``chosen`` one is better than the ``rejected`` one.

The prompt stands in its own column, or both answers are whole conversations that begin alike (the
implicit prompt of TRL). By how much the chosen one is better may be told by ``margin`` or by a score
of each answer; a reward model can be trained on it. Also the row of mlx-lm-lora.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from training.engine.errors import Problem
from training.engine.formats import dialogue, rules
from training.engine.formats.rules import Check, Message

SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen_rating", "rejected_rating"))
COLUMNS = (
    *dialogue.PROMPTS, *dialogue.BESIDE, "chosen", "rejected", "margin",
    *(column for pair in SCORES for column in pair),
)  # fmt: skip
MAX_MARGIN = 1e6


def recognise(row: Mapping[str, Any]) -> str:
    """Why ``row`` looks like a preference pair, or ""."""
    return "it has the columns `chosen` and `rejected`" if "chosen" in row and "rejected" in row else ""


def normalise(row: Mapping[str, Any]) -> dict[str, Any] | list[Problem]:
    """``{"prompt": messages, "chosen", "rejected", "margin"?}``, or all problems of the row."""
    check = rules.Check()
    before_chosen, chosen = dialogue.answer(check, row, "chosen")
    before_rejected, rejected = dialogue.answer(check, row, "rejected")
    prompt = _prompt(check, row, before_chosen, before_rejected)
    if chosen.strip() and chosen.strip() == rejected.strip():
        check.add(
            ("rejected",),
            "same_answers",
            "`chosen` and `rejected` are the same.",
            "A pair that prefers neither teaches nothing: leave the row out.",
        )
    margin = _margin(check, row)
    normal = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return check.problems or (normal if margin is None else {**normal, "margin": margin})


def _prompt(check: Check, row: Mapping[str, Any], chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """The conversation before both answers: what they begin with, or the prompt's own column."""
    if not chosen and not rejected:
        return dialogue.prompt(check, row)
    column = "chosen" if chosen else "rejected"
    if chosen and rejected and chosen != rejected:
        pairs = enumerate(zip(chosen, rejected, strict=False))
        place = next((i for i, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
        _differ(check, ("rejected", place), f"`chosen` and `rejected` differ at turn {place + 1}, before the last one.")
    before = dialogue.framed(check, row, chosen or rejected, column)
    if isinstance(row.get("prompt"), list):
        given = dialogue.prompt(Check(), row, ("prompt",))
        if given != before:
            _differ(check, ("prompt",), f"`prompt` is not what `{column}` begins with.")
    return before


def _differ(check: Check, loc: rules.Loc, message: str) -> None:
    check.add(
        loc, "different_prompts", message, "Two answers are compared to one prompt: make what comes before alike."
    )


def _margin(check: Check, row: Mapping[str, Any]) -> float | None:
    """By how much the chosen answer is better; None if the row does not say."""
    if row.get("margin") is not None:
        return _at_least_none(check, "margin", _number(check, row, "margin"))
    for columns in SCORES:
        if all(row.get(column) is not None for column in columns):
            better, worse = (_number(check, row, column) for column in columns)
            margin = None if better is None or worse is None else better - worse
            return _at_least_none(check, columns[0], margin)
    return None


def _number(check: Check, row: Mapping[str, Any], column: str) -> float | None:
    """The finite number in ``column``, which a CSV file holds as text."""
    value = row[column]
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number) and abs(number) <= MAX_MARGIN:
        return number
    shown = repr(value)[:40] if isinstance(value, int | float | str) else rules.kind(value)
    hint = f"Give a number of at most {MAX_MARGIN:,.0f}, or leave the column out."
    check.add((column,), "bad_number", f"`{column}` is {shown}.", hint)
    return None


def _at_least_none(check: Check, column: str, margin: float | None) -> float | None:
    if margin is not None and margin < 0:
        check.add(
            (column,),
            "negative_margin",
            f"The chosen answer is rated lower than the rejected one (margin {margin:g}).",
            "Swap the two answers, or leave the row out.",
        )
    return margin
