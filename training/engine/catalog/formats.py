"""Row formats of data sets, in the order in which they are tried on a row nobody has named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from training.engine.catalog.rows import Table
from training.engine.errors import DataError, Problem
from training.engine.formats import alpaca, chat, completion, kto, preference, prompts, sharegpt, text

#: What the rows of a format can teach: answers to imitate, pairs to choose between, judged answers, or
#: only questions. A method names the families that it can learn from.
Family = Literal["sft", "preference", "kto", "prompts"]


@dataclass(frozen=True, slots=True)
class Format:
    """One row format. ``columns`` are all it can use; others are read over."""

    name: str
    label: str
    summary: str
    columns: tuple[str, ...]
    example: dict[str, Any]
    module: ModuleType
    family: Family = "sft"

    def recognise(self, row: Mapping[str, Any]) -> str:
        """Half a sentence why ``row`` looks like this format, or ""."""
        return str(self.module.recognise(row))

    def normalise(self, row: Mapping[str, Any]) -> dict[str, Any] | list[Problem]:
        """``row`` in the normal form, or all its problems."""
        found: dict[str, Any] | list[Problem] = self.module.normalise(row)
        return found


class Formats(Table[Format]):
    """An ordered table of formats, found by name or by a row."""

    @property
    def listed(self) -> list[Format]:
        """In the order in which people look for one: what is imitated first."""
        return sorted(self, key=lambda row: row.family != "sft")

    def named(self, name: str) -> Format:
        """The format ``name``; DataError ``data_format.unknown`` if there is none."""
        if name not in self:
            known = ", ".join(self.names)
            raise DataError("data_format.unknown", f"There is no data format '{name[:60]}'.", f"Known are: {known}.")
        return self[name]

    def recognise(self, rows: Iterable[Any]) -> tuple[Format, str] | None:
        """The format of the first row that looks like one, with a sentence why; None if no row does."""
        for row in rows:
            if isinstance(row, Mapping):
                for known in self:
                    if why := known.recognise(row):
                        return known, f"Reads as {known.label.lower()}, because {why}."
        return None


_Q, _A = "What is the capital of France?", "Paris."
_TURNS = ("messages", "conversations", "conversation", "tools")

_ASKED = [{"role": "user", "content": _Q}]

# Rows of the first two also have the columns of later ones, so they are tried first.
FORMATS = Formats(
    "format",
    Format(
        "preference",
        "Preference",
        "A prompt with a chosen and a rejected answer, perhaps a margin.",
        preference.COLUMNS,
        {"prompt": _ASKED, "chosen": _A, "rejected": "It is Lyon."},
        preference,
        "preference",
    ),
    Format(
        "kto",
        "KTO",
        "A prompt, an answer, and whether it is good.",
        kto.COLUMNS,
        {"prompt": _ASKED, "completion": _A, "label": True},
        kto,
        "kto",
    ),
    Format(
        "chat",
        "Chat",
        "Turns with role and content, as in the OpenAI API.",
        _TURNS,
        {"messages": [{"role": "user", "content": _Q}, {"role": "assistant", "content": _A}]},
        chat,
    ),
    Format(
        "sharegpt",
        "ShareGPT",
        "Turns with from and value.",
        (*_TURNS, "system"),
        {"conversations": [{"from": "human", "value": _Q}, {"from": "gpt", "value": _A}]},
        sharegpt,
    ),
    Format(
        "alpaca",
        "Alpaca",
        "An instruction, perhaps an input, and the output.",
        ("instruction", "input", "output", "system", "history"),
        {"instruction": _Q, "input": "", "output": _A},
        alpaca,
    ),
    Format(
        "prompts",
        "Prompts",
        "Questions alone, perhaps with a reference answer to check against.",
        prompts.COLUMNS,
        {"prompt": _ASKED, "answer": "Paris"},
        prompts,
        "prompts",
    ),
    Format(
        "completion",
        "Prompt and completion",
        "What is given and what shall follow.",
        ("prompt", "completion", "response", "question", "answer"),
        {"prompt": _Q, "completion": _A},
        completion,
    ),
    Format("text", "Plain text", "Any text; all of it is trained.", ("text",), {"text": f"{_Q} {_A}"}, text),
)
