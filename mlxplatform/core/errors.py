"""What the platform may refuse, each with a code, a sentence and what to do.

Views, the API and commands raise these or let them pass; the roof turns them into pages and answers.
"""

from __future__ import annotations

from typing import ClassVar

from training.engine.errors import Problem


class DomainError(Exception):
    """A refusal that a person can act on."""

    status: ClassVar[int] = 400

    def __init__(self, code: str, message: str, hint: str = "", *, problems: list[Problem] | None = None) -> None:
        super().__init__(code, message, hint)
        self.code, self.message, self.hint = code, message, hint
        self.problems = problems or [Problem((), code, message, hint)]

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class NotFound(DomainError):
    """There is no such thing, or it is not yours to see: the answer is the same."""

    status = 404


class Forbidden(DomainError):
    """Signed in, but this needs another role or scope."""

    status = 403


class Conflict(DomainError):
    """The row is no longer in the state this change starts from."""

    status = 409


class Invalid(DomainError):
    """The input is wrong; ``problems`` holds every reason."""

    status = 422

    @classmethod
    def of(cls, problems: list[Problem]) -> Invalid:
        """One refusal out of all ``problems`` (at least one)."""
        return cls(problems[0].code, problems[0].message, problems[0].hint, problems=problems)


class TooMuch(DomainError):
    """A limit of this installation is reached: queue, upload, disk."""

    status = 429
