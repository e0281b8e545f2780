"""Files of ``tests/golden``: cases with what other people's code made of them. Reading needs no PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.cases import Array, Case

FOLDER = Path(__file__).resolve().parents[1] / "golden"
Made = tuple[dict[str, Array], dict[str, Array]]
"""Values and gradients by name."""


def write(name: str, made: list[tuple[Case, Made]]) -> None:
    """One case a line; numbers with the nine digits that make a float32 again."""
    lines = [json.dumps(_plain(case, *both), separators=(",", ":")) for case, both in made]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def read(name: str) -> list[tuple[Case, Made]]:
    """What :func:`write` wrote."""
    kept = []
    for row in json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")):
        case = Case(row["name"], row["function"], row["settings"], _arrays(row["arrays"]), tuple(row["gradients"]))
        kept.append((case, (_arrays(row["values"]), _arrays(row["gradients"]))))
    return kept


def _plain(case: Case, values: dict[str, Array], gradients: dict[str, Array]) -> dict[str, Any]:
    named = {"arrays": case.arrays, "values": values, "gradients": gradients}
    lists = {kind: {name: _digits(array.tolist()) for name, array in some.items()} for kind, some in named.items()}
    return {"name": case.name, "function": case.function, "settings": case.settings} | lists


def _digits(value: Any) -> Any:
    if isinstance(value, list):
        return [_digits(one) for one in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _arrays(lists: dict[str, Any]) -> dict[str, Array]:
    arrays = {name: np.array(value) for name, value in lists.items()}
    return {name: a.astype(np.float32) if a.dtype == np.float64 else a for name, a in arrays.items()}
