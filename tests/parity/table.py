"""The table "Checked against" of docs/methods.md, from what a run of the parity tests has found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "methods.md"
START, END = "<!-- parity: written by make parity WRITE=1 -->\n", "<!-- /parity -->\n"
LIBRARIES = ("torch", "transformers", "trl", "peft", "mlx", "mlx-lm")
HEADING = "| what | checked against | cases | largest error: values | gradients, parameters |\n|---|---|---|---|---|\n"


@dataclass(frozen=True, slots=True)
class Found:
    """One comparison. Errors as in ``compare.error``; None: nothing of that kind was compared."""

    what: str
    reference: str
    value: float | None
    gradient: float | None


Checked = Callable[[str, str, float | None, float | None], None]
"""Takes the fields of a :class:`Found`; the fixture ``checked`` is one."""


def text(found: Iterable[Found]) -> str:
    """The table: a line for each ``what`` with the largest errors of its cases, under the versions."""
    lines: dict[str, list[Found]] = {}
    for one in found:
        lines.setdefault(one.what, []).append(one)
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    rows = "".join(_line(what, cases) for what, cases in lines.items())
    return f"{versions}; CPU, float32. Above 1, errors are relative to the largest number.\n\n{HEADING}{rows}"


def _line(what: str, cases: list[Found]) -> str:
    references = "; ".join(dict.fromkeys(case.reference for case in cases))
    errors = [_worst([c.value for c in cases]), _worst([c.gradient for c in cases])]
    return f"| {what} | {references} | {len(cases)} | {errors[0]} | {errors[1]} |\n"


def _worst(errors: Iterable[float | None]) -> str:
    given = [error for error in errors if error is not None]
    worst = max(given, default=0.0)
    return f"{worst:.0e}" if worst else "0" if given else "–"


def write(found: Iterable[Found], page: Path = PAGE) -> None:
    """Replace the table in ``page``."""
    whole = page.read_text(encoding="utf-8")
    made, count = re.subn(
        f"({re.escape(START)}).*?({re.escape(END)})", lambda m: f"{m[1]}\n{text(found)}\n{m[2]}", whole, flags=re.S
    )
    assert count == 1, f"{page} has no place for the table"
    page.write_text(made, encoding="utf-8")
