"""Alpaca: ``instruction``, perhaps ``input`` and ``system``, and ``output``; one question, one answer.

The instruction and the input become one user turn with an empty line between them; the fixed
English frame of the original Alpaca prompt is left to the model's own chat template.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.engine.errors import Problem
from training.engine.formats import rules


def recognise(row: Mapping[str, Any]) -> str:
    """Why ``row`` looks like Alpaca, or ""."""
    return "it has the columns `instruction` and `output`" if "instruction" in row and "output" in row else ""


def normalise(row: Mapping[str, Any]) -> dict[str, Any] | list[Problem]:
    """``{"messages": [system?, user, assistant]}``, or all problems of the row."""
    check = rules.Check()
    instruction = rules.need(check, row, "instruction")
    given = check.text(row.get("input"), ("input",), empty=True)
    answer = rules.need(check, row, "output")
    system = check.text(row.get("system"), ("system",), empty=True)
    if row.get("history"):
        check.add(
            ("history",),
            "history",
            "The row has a `history`, which Alpaca rows here may not have.",
            "Write the conversation as chat `messages`.",
        )
    question = f"{instruction}\n\n{given}" if given.strip() else instruction
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    if system.strip():
        messages.insert(0, {"role": "system", "content": system})
    return check.problems or {"messages": messages}
