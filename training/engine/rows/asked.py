"""What a data row asks, and the answer that stands in it: for samples, evaluations and rewards by rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """Chat messages up to the answer, and the reference answer; None if the row has none."""

    prompt: list[dict[str, Any]]
    reference: str | None


def of(row: dict[str, Any]) -> Asked | None:
    """``row`` in any normal form; None for one that asks nothing, such as plain text.

    The reference is the last answer of a chat, the completion, the chosen answer of a pair, a judged answer if
    it is good, or the answer of a prompt.
    """
    if "messages" in row:
        turns = row["messages"]
        if len(turns) < 2 or turns[-1].get("role") != "assistant":
            return None
        return Asked(list(turns[:-1]), str(turns[-1]["content"]))
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        return Asked([{"role": "user", "content": prompt}], str(row["completion"]))
    if not isinstance(prompt, list) or not prompt:
        return None
    if "label" in row:
        return Asked(list(prompt), str(row["completion"]) if row["label"] else None)
    reference = row.get("chosen", row.get("answer"))
    return Asked(list(prompt), None if reference is None else str(reference))
