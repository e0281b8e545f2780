"""Everything that can go wrong in the engine, each with a code, a sentence and what to do.

To add one: raise the family whose exit code fits, with a new ``code`` (lower case, dots between
the parts) and a ``message`` that names the wrong value. A new *family* needs a row in the table of
exit codes in ``docs/journal.md``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, ClassVar


class Exit(IntEnum):
    """Exit codes of the engine's process; the journal's last word decides, these are its echo."""

    FINISHED = 0
    BUG = 1
    CONFIG = 2
    DATA = 3
    MODEL = 4
    MEMORY = 5
    DIVERGED = 6
    STORAGE = 7
    STOPPED = 10
    UNWATCHED = 75


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the input: where, which rule, a sentence, and what to do.

    ``loc`` is a path such as ``("optimizer", "betas", 0)``; forms, the API and the command line
    show the same problems.
    """

    loc: tuple[str | int, ...]
    code: str
    message: str
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The shape every interface shows: ``{"loc": [...], "code", "message", "hint"}``."""
        return {**asdict(self), "loc": list(self.loc)}


class EngineError(Exception):
    """An end that was foreseen. Ends the attempt as ``failed`` with this code, message and hint."""

    family: ClassVar[str] = "bug"
    exit_code: ClassVar[Exit] = Exit.BUG

    def __init__(self, code: str, message: str, hint: str = "", *, problems: list[Problem] | None = None) -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint
        self.problems = problems or []
        self.trace = ""
        """Where a fault of ours lies, if this was told by another process; for the journal."""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(EngineError, ValueError):
    """The request itself is wrong. Carries *all* of its problems at once."""

    family = "config"
    exit_code = Exit.CONFIG

    @classmethod
    def of(cls, problems: list[Problem]) -> ConfigError:
        """One error out of all ``problems`` (at least one)."""
        first = problems[0]
        more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        return cls(first.code, first.message + more, first.hint, problems=problems)


class DataError(EngineError, ValueError):
    """The data set cannot be read or cannot be trained on."""

    family = "data"
    exit_code = Exit.DATA


class ModelError(EngineError, ValueError):
    """The model folder or file is broken, incomplete or of an unknown kind."""

    family = "model"
    exit_code = Exit.MODEL


class MemoryShortage(EngineError, MemoryError):  # noqa: N818 - says what is, not that it is an error
    """The training does not fit into memory."""

    family = "memory"
    exit_code = Exit.MEMORY


class Diverged(EngineError, ArithmeticError):  # noqa: N818 - as above
    """The loss or the gradients became NaN or infinite."""

    family = "diverged"
    exit_code = Exit.DIVERGED


class StorageError(EngineError, OSError):
    """The run folder cannot be written: disk full, no permission, or held by another engine."""

    family = "storage"
    exit_code = Exit.STORAGE

    # OSError has its own __str__ over args; ours is the sentence.
    __str__ = EngineError.__str__


class StopAsked(Exception):  # noqa: N818 - a message, not an error
    """The engine was asked to stop (SIGTERM) or noticed that nobody watches it any more."""

    def __init__(self, why: str, exit_code: Exit) -> None:
        super().__init__(why)
        self.why = why
        self.exit_code = exit_code


class RankDied(Exception):  # noqa: N818 - a message, not an error
    """A rank of a distributed training died without a reason that it could tell.

    Says no last word, so that the platform counts the attempt as lost and goes on from a checkpoint.
    ``code``: the rank's exit code, a negative one being the number of the signal that ended it.
    """

    def __init__(self, rank: int, code: int) -> None:
        super().__init__(rank, code)
        self.rank = rank
        self.code = code
