"""Examples made by hand."""

from __future__ import annotations

from training.engine.rows.examples import Example
from training.engine.rows.masks import Encoded


def one(ids: list[int], trained: list[bool], cut: int = 0) -> Example:
    """An example of one sequence."""
    return Example.single(Encoded(ids, trained, cut))


def pair(first: list[int], second: list[int], prompt: int, **numbers: float) -> Example:
    """Two answers to the same prompt of ``prompt`` tokens; what stands behind it is trained."""
    parts = (Encoded(ids, [i >= prompt for i in range(len(ids))], 0) for ids in (first, second))
    return Example(tuple(parts), dict(numbers))
