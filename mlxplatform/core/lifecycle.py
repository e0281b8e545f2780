"""State machines on rows: moves are declared as data, checked at import, and made by one function.

A move is one conditional UPDATE whose row count must be 1; the row then writes its event in the same
transaction. Nothing else in the project sets a ``state`` column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from django.db import models, transaction

from mlxplatform.core.errors import Conflict


class Lifecycle:
    """The states of one kind of row and the moves between them."""

    def __init__(self, states: type[models.TextChoices], moves: Mapping[str, frozenset[str] | set[str]]) -> None:
        self.states = states
        self.moves = {frm: frozenset(to) for frm, to in moves.items()}
        known = set(states.values)
        named = set(self.moves) | {to for targets in self.moves.values() for to in targets}
        if named - known:
            raise TypeError(f"{states.__name__} has no state {sorted(named - known)}")
        if known - set(self.moves):
            raise TypeError(f"{states.__name__}: no moves declared for {sorted(known - set(self.moves))}")

    def sources(self, to: str) -> frozenset[str]:
        """The states from which ``to`` can be reached."""
        return frozenset(frm for frm, targets in self.moves.items() if to in targets)

    @property
    def final(self) -> frozenset[str]:
        """States without a way out."""
        return frozenset(state for state, targets in self.moves.items() if not targets)


class Movable(Protocol):
    """A row with a declared life."""

    LIFE: Lifecycle
    pk: Any
    state: Any

    def record_move(self, frm: str, to: str) -> None:
        """Write the event of a move; called inside its transaction, after the row was updated."""


def move(
    row: Any, to: str, *, only_from: set[str] | frozenset[str] | None = None, fence: int | None = None, **columns: Any
) -> None:
    """Move ``row`` to state ``to``, setting ``columns`` with it, and record it; or raise Conflict.

    ``only_from`` narrows the declared source states; ``fence`` lets only the fence's holder move it.
    The row object is brought up to date. ``columns`` may hold F() expressions.
    """
    life: Lifecycle = row.LIFE
    sources = life.sources(to) & only_from if only_from is not None else life.sources(to)
    with transaction.atomic():
        rows = type(row)._default_manager.filter(pk=row.pk, state__in=sources)
        if fence is not None:
            rows = rows.filter(fence=fence)
        frm = str(type(row)._default_manager.filter(pk=row.pk).values_list("state", flat=True).first())
        if rows.update(state=to, **columns) != 1:
            raise Conflict(
                "state.moved_on",
                f"This is {frm} now and cannot become {to}.",
                "Reload to see where it stands.",
            )
        row.refresh_from_db()
        row.record_move(frm, to)
