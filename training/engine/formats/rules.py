"""The rules that several row formats share: text, lists of turns, the order of roles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from training.engine.errors import Problem

Loc = tuple[str | int, ...]
Message = dict[str, str]
ROLES = ("system", "user", "assistant", "tool")
#: The words that chat rows and ShareGPT rows have for the roles.
CHAT_ROLES = {role: role for role in ROLES} | {"developer": "system", "function": "tool"}
SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "system": "system",
    "tool": "tool",
    "user": "user",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "observation": "tool",
}
MAX_TURNS = 4096


class Shape(NamedTuple):
    """How a format writes turns: in which columns, under which keys, with which words for the roles."""

    columns: tuple[str, ...]
    role_key: str
    text_key: str
    roles: Mapping[str, str]


class Check:
    """Collects the problems of one row, so that a row is judged once and completely."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, loc: Loc, code: str, message: str, hint: str) -> None:
        """Note one problem; ``code`` is given without its ``data.``."""
        self.problems.append(Problem(loc, f"data.{code}", message, hint))

    def text(self, value: Any, loc: Loc, *, empty: bool = False) -> str:
        """``value`` as text. Notes a problem and returns "" if it is none, or empty where it must not be."""
        if isinstance(value, str) and "\0" not in value and (empty or value.strip()):
            return value  # the usual case first: this runs for every text of every row
        if value is None and empty:
            return ""
        where = named(loc)
        if value is None:
            self.add(loc, "empty", f"{where} is missing or null.", "Fill it in or leave the row out.")
            return ""
        if not isinstance(value, str):
            self.add(loc, "wrong_type", f"{where} is {kind(value)}, not text.", "Write it as text in quotes.")
            return ""
        if "\0" in value:
            self.add(loc, "nul_bytes", f"{where} holds a NUL character.", "Remove it; it is no text.")
        if not value.strip() and not empty:
            self.add(loc, "empty", f"{where} is empty.", "Fill it in or leave the row out.")
        return value


def named(loc: Loc) -> str:
    """A place in a row in the words of a person: ``messages``, turn 2, ``content``."""
    return ", ".join(f"turn {part + 1}" if isinstance(part, int) else f"`{part}`" for part in loc)


def kind(value: Any) -> str:
    """What a JSON value is, for use in a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return {"str": "text", "list": "a list", "dict": "an object"}.get(type(value).__name__, "no JSON value")


def turns(value: Any) -> list[Any] | None:
    """``value`` as a list of turns, None if it is none.

    A CSV cell holds the list as JSON text; ``datasets`` may hold it as one object of lists.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, dict) and value and all(isinstance(v, list) for v in value.values()):
        if len({len(v) for v in value.values()}) != 1:
            return None
        return [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]
    return value if isinstance(value, list) else None


def column_of(row: Mapping[str, Any], columns: tuple[str, ...], *keys: str) -> str:
    """The first of ``columns`` that holds turns whose first one has all ``keys``; "" if none does."""
    for column in columns:
        found = turns(row.get(column))
        if found and isinstance(found[0], dict) and all(key in found[0] for key in keys):
            return column
    return ""


def conversation(check: Check, row: Mapping[str, Any], shape: Shape) -> list[Message]:
    """The turns of ``row`` as messages, with every problem noted in ``check``."""
    columns, role_key = shape.columns, shape.role_key
    column = column_of(row, columns, role_key) or next((c for c in columns if row.get(c) is not None), "")
    if not column:
        check.add((columns[0],), "missing_column", f"The row has no `{columns[0]}`.", "Add it or leave the row out.")
        return []
    messages = said(check, row[column], column, shape)
    if not messages:
        return []
    no_tools(check, row)
    if all(message["role"] for message in messages):
        check_order(check, messages, column)
    return messages


def said(check: Check, value: Any, column: str, shape: Shape) -> list[Message]:
    """The turns in ``column`` as messages, each judged by itself; [] when there are none."""
    found = turns(value)
    if found is None:
        check.add(
            (column,),
            "wrong_type",
            f"`{column}` is {kind(value)}, not a list of turns.",
            f"Write a list of objects with `{shape.role_key}` and `{shape.text_key}`.",
        )
        return []
    if not found or len(found) > MAX_TURNS:
        code, much = ("no_turns", "no turn") if not found else ("too_many_turns", f"{len(found)} turns")
        check.add((column,), code, f"`{column}` holds {much}.", f"A conversation has 2 to {MAX_TURNS} turns.")
        return []
    return [_turn(check, turn, (column, i), shape) for i, turn in enumerate(found)]


def no_tools(check: Check, row: Mapping[str, Any]) -> None:
    """Declared tools would be lost without a word: note them."""
    if row.get("tools"):
        check.add(
            ("tools",),
            "tools",
            "The row declares tools; they would not be trained.",
            "Leave the row out, or write the tools into the system turn.",
        )


def _turn(check: Check, turn: Any, loc: Loc, shape: Shape) -> Message:
    role_key, text_key, roles = shape[1:]
    if not isinstance(turn, dict):
        check.add(
            loc,
            "wrong_type",
            f"{named(loc)} is {kind(turn)}, not an object.",
            f"Write an object with `{role_key}` and `{text_key}`.",
        )
        return {"role": "", "content": ""}
    given = turn.get(role_key)
    role = roles.get(given, "") if isinstance(given, str) else ""
    if not role:
        shown = f"'{given[:40]}'" if isinstance(given, str) else kind(given)
        check.add(
            (*loc, role_key),
            "unknown_role",
            f"{named((*loc, role_key))} is {shown}.",
            f"Known are: {', '.join(roles)}.",
        )
    if turn.get("tool_calls") or turn.get("function_call"):
        check.add(
            (*loc, "tool_calls"),
            "tools",
            f"{named(loc)} calls a tool; the call would not be trained.",
            "Write the call as text into the turn, or leave the row out.",
        )
        return {"role": role, "content": ""}
    content = _joined(check, turn.get(text_key), (*loc, text_key))
    # An empty system turn is meant: it switches a template's own one off. A tool may answer nothing.
    return {"role": role, "content": check.text(content, (*loc, text_key), empty=role in ("system", "tool"))}


def _joined(check: Check, content: Any, loc: Loc) -> Any:
    """Content given in parts, ``[{"type": "text", "text": …}]``, as one text."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            what = part.get("type") if isinstance(part, dict) else kind(part)
            check.add(
                loc,
                "not_text",
                f"{named(loc)} holds a part that is no text ({str(what)[:40]}).",
                "Only text is trained: leave the row out.",
            )
            return "-"
    return "".join(texts)


def check_order(check: Check, messages: list[Message], column: str, *, answered: bool = True) -> None:
    """Turns must go system?, user, assistant, (tool, assistant)*, user, …, and end with the assistant.

    Where the answer stands apart (``answered=False``) they end with what the assistant answers to.
    """
    before = "start"
    may = {
        "start": ("system", "user"),
        "system": ("user",),
        "user": ("assistant",),
        "assistant": ("user", "tool"),
        "tool": ("assistant", "tool"),
    }
    for i, message in enumerate(messages):
        role = message["role"]
        if role not in may[before]:
            after = "the conversation begins with it" if before == "start" else f"it follows a turn of the {before}"
            check.add(
                (column, i),
                "role_order",
                f"Turn {i + 1} is the {role}'s, but {after}.",
                f"Expected here: {' or '.join(may[before])}. Merge, reorder or remove turns.",
            )
        before = role
    if not answered and before not in ("user", "tool"):
        check.add(
            (column, len(messages) - 1),
            "last_turn",
            f"The last turn before the answer is the {before}'s, not the user's.",
            "A prompt ends with what is to be answered: a turn of the user or a tool.",
        )
    elif answered and before != "assistant":
        check.add(
            (column, len(messages) - 1),
            "last_turn",
            f"The last turn is the {before}'s, not the assistant's.",
            "The answer is what is trained: end the conversation with a turn of the assistant.",
        )


def need(check: Check, row: Mapping[str, Any], column: str, *, empty: bool = False) -> str:
    """The text in ``column``, a problem if there is no such column."""
    if column not in row:
        check.add((column,), "missing_column", f"The row has no `{column}`.", "Add it or leave the row out.")
        return ""
    return check.text(row[column], (column,), empty=empty)
