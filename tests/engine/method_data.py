"""Rows that a method can train on, in every normal form, always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.engine import runs
from tests.fakes import tiny
from training.engine.catalog.methods import METHODS


def _prompt(i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is {i}?"}]


def _answer(i: int) -> str:
    return f"{i} is " + "so much " * (i * 5 % 7) + f"and {i * i}."


def row(data_format: str, i: int) -> dict[str, Any]:
    """Row ``i`` in the normal form of ``data_format``."""
    if data_format == "preference":
        return {"prompt": _prompt(i), "chosen": _answer(i), "rejected": f"Who knows {i}?", "margin": float(i % 3)}
    if data_format == "kto":
        return {"prompt": _prompt(i), "completion": _answer(i), "label": i % 2 == 0}
    if data_format == "prompts":
        return {"prompt": _prompt(i), "answer": str(i * i)}
    return runs.chat(f"What is {i}?", _answer(i))


def rows(method: str, count: int = 14) -> list[dict[str, Any]]:
    """``count`` rows of very different length for ``method``."""
    return [row(METHODS[method].settings.reads[0], i) for i in range(count)]  # type: ignore[attr-defined]


def data(folder: Path, method: str, **counts: int) -> Path:
    """A data folder for ``method``; 14 rows to train if no split is named."""
    return runs.data(folder, **{name: rows(method, count) for name, count in (counts or {"train": 14}).items()})


def others(method: str, folder: Path) -> dict[str, dict[str, str]]:
    """Further models that ``method`` needs, made in ``folder``, as a configuration names them."""
    needs = METHODS[method].settings(name=method).needs  # type: ignore[attr-defined]
    return {role: {"model": str(tiny.make(folder / role, seed=7))} for role in needs}
