"""The rules of rows whose prompt and answer stand apart: preference pairs, judged answers, bare prompts.

Prompts and answers come as plain text, as turns (chat or ShareGPT), and as the text of Anthropic's
sets, ``"\\n\\nHuman: …\\n\\nAssistant: …"``. An answer may come with the whole conversation before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from training.engine.formats import rules
from training.engine.formats.rules import Check, Message

PROMPTS = ("prompt", "question", "instruction")
#: Columns beside the prompt that belong to it.
BESIDE = ("system", "input", "tools")
_CHAT = rules.Shape((), "role", "content", rules.CHAT_ROLES)
_SHAREGPT = rules.Shape((), "from", "value", rules.SHAREGPT_ROLES)
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


def prompt(check: Check, row: Mapping[str, Any], columns: tuple[str, ...] = PROMPTS) -> list[Message]:
    """The turns up to the answer, from the first of ``columns`` that the row has, with its ``system``."""
    column = next((c for c in columns if row.get(c) is not None), "")
    if not column:
        check.add((columns[0],), "missing_column", f"The row has no `{columns[0]}`.", "Add it or leave the row out.")
        return []
    messages = _turns(check, row[column], column)
    if messages is None:
        text = check.text(row[column], (column,))
        given = check.text(row.get("input"), ("input",), empty=True) if column == "instruction" else ""
        messages = [{"role": "user", "content": f"{text}\n\n{given}" if given.strip() else text}]
    elif messages and messages[-1] == {"role": "assistant", "content": ""} and isinstance(row[column], str):
        messages.pop()  # "…\n\nAssistant:" only says who is next
    return framed(check, row, messages, column)


def framed(check: Check, row: Mapping[str, Any], messages: list[Message], column: str) -> list[Message]:
    """``messages`` behind the row's ``system``, if they have none; their order is checked."""
    rules.no_tools(check, row)
    system = check.text(row.get("system"), ("system",), empty=True)
    if messages and all(message["role"] for message in messages):
        rules.check_order(check, messages, column, answered=False)
    if system.strip() and messages and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    return messages


def answer(check: Check, row: Mapping[str, Any], column: str) -> tuple[list[Message], str]:
    """What stands in ``column`` before the answer (often nothing), and the answer's text."""
    if column not in row:
        check.add((column,), "missing_column", f"The row has no `{column}`.", "Add it or leave the row out.")
        return [], ""
    messages = _turns(check, row[column], column)
    if messages is None:
        return [], check.text(row[column], (column,))
    if not messages or not messages[-1]["role"]:
        return [], ""
    last = messages[-1]
    if last["role"] != "assistant":
        check.add(
            (column, len(messages) - 1),
            "last_turn",
            f"The last turn of `{column}` is the {last['role']}'s, not the assistant's.",
            "The answer is what is judged: end it with a turn of the assistant.",
        )
    elif isinstance(row[column], str):
        check.text(last["content"], (column,))  # turns in a list were looked at one by one
    return messages[:-1], last["content"]


def _turns(check: Check, value: Any, column: str) -> list[Message] | None:
    """``value`` as turns; None if it is plain text, or nothing that could be turns."""
    if isinstance(value, str):
        if (spoken := _spoken(value)) is not None:
            return spoken
        found = rules.turns(value) or []
        # An answer may be a list in JSON without being a conversation.
        if not found or not all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in found):
            return None
        value = found
    elif isinstance(value, dict) and ("role" in value or "from" in value) and rules.turns(value) is None:
        value = [value]  # one turn without a list around it
    elif not isinstance(value, list | dict):
        return None
    found = rules.turns(value) or []
    first = found[0] if found else None
    shape = _SHAREGPT if isinstance(first, dict) and "role" not in first and "from" in first else _CHAT
    return rules.said(check, value, column, shape)


def _spoken(text: str) -> list[Message] | None:
    """The turns of a text with the speakers ``Human:`` and ``Assistant:``; None if it is no such text."""
    text = text.strip()
    marks = list(_SPEAKER.finditer(text))
    if len(marks) < 2 or marks[0].start() or marks[0][1] != "Human":
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        {"role": _SPEAKERS[mark[1]], "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]
