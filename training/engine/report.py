"""How a long piece of work tells where it is; the command line writes it into the journal."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Where an import, a training or an export says what it does."""

    def phase(self, name: str, done: int | None = None, total: int | None = None, detail: str = "") -> None:
        """The work is now in ``name`` (read, convert, check, …), ``done`` of ``total`` units of it."""

    def log(self, message: str, level: str = "info") -> None:
        """One line for people; levels are info, warning and error."""


class Silent:
    """A reporter that says nothing."""

    def phase(self, name: str, done: int | None = None, total: int | None = None, detail: str = "") -> None:
        """Say nothing."""

    def log(self, message: str, level: str = "info") -> None:
        """Say nothing."""
