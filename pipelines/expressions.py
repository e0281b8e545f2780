"""The conditions of gates: comparisons of figures with numbers, joined by ``and``, ``or`` and ``not``.

    val_loss < 2.1 and (win_rate >= 0.55 or not refusals > 0)

::

    any        = all ("or" all)*
    all        = one ("and" one)*
    one        = "not" one | "(" any ")" | side comparison side
    side       = number | name ("." name)*
    comparison = "<" | "<=" | ">" | ">=" | "==" | "!="

Nothing is ever evaluated as Python. Every comparison is looked at, also where the first one has decided, because people
want to see all the figures.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from training.engine.errors import Problem

LONGEST, DEEPEST = 500, 20  # characters; brackets in brackets
_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)"
    r"|(?P<sign><=|>=|==|!=|<|>|\(|\)))"
)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_WORDS = ("and", "or", "not")


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison with its figures."""

    text: str
    left: float
    right: float
    holds: bool

    @property
    def margin(self) -> float:
        """How far the sides lie apart; NaN if one of them is none."""
        return abs(self.left - self.right)


@dataclass(frozen=True, slots=True)
class Side:
    """A number, or a figure's name."""

    text: str
    value: float | None

    def of(self, figures: Mapping[str, float]) -> float:
        return figures[self.text] if self.value is None else self.value


@dataclass(frozen=True, slots=True)
class Comparison:
    left: Side
    sign: str
    right: Side

    def holds(self, figures: Mapping[str, float], seen: list[Compared]) -> bool:
        left, right = self.left.of(figures), self.right.of(figures)
        found = _COMPARE[self.sign](left, right)
        seen.append(Compared(f"{self.left.text} {self.sign} {self.right.text}", left, right, found))
        return found


@dataclass(frozen=True, slots=True)
class Joined:
    """``and``, ``or`` or ``not`` over others."""

    word: str
    parts: tuple[Any, ...]

    def holds(self, figures: Mapping[str, float], seen: list[Compared]) -> bool:
        found = [part.holds(figures, seen) for part in self.parts]
        if self.word == "not":
            return not found[0]
        return all(found) if self.word == "and" else any(found)


class _Fault(Exception):  # noqa: N818 - stays in this module
    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at, self.message = at, message


class Condition:
    """A condition that was read. :attr:`names` are the figures it asks for."""

    def __init__(self, text: str) -> None:
        """Raises :class:`Malformed` with the place in the text."""
        self.text = text = text.strip()
        if len(text) > LONGEST:
            raise Malformed(f"The condition has {len(text)} characters; at most {LONGEST} are read.")
        try:
            self._root = _Reader(text).read()
        except _Fault as fault:
            raise Malformed(f"At character {fault.at + 1} of '{text[:80]}': {fault.message}") from None
        self.names = frozenset(_names(self._root))

    def holds(self, figures: Mapping[str, float]) -> tuple[bool, list[Compared]]:
        """Whether it holds, and every comparison. A figure that is no number lets nothing pass, not even a ``not``.

        Raises KeyError for a figure that is not there.
        """
        seen: list[Compared] = []
        found = self._root.holds(figures, seen)
        return found and not any(math.isnan(one.margin) for one in seen), seen


class Malformed(ValueError):  # noqa: N818 - reads better where it is raised
    """The text is no condition; the message says where and why."""

    def problem(self, loc: tuple[str | int, ...]) -> Problem:
        return Problem(loc, "condition.malformed", str(self), "Write it like: val_loss < 2.1 and win_rate >= 0.55")


def _names(node: Any) -> list[str]:
    if isinstance(node, Comparison):
        return [side.text for side in (node.left, node.right) if side.value is None]
    return [name for part in node.parts for name in _names(part)]


class _Reader:
    """Reads a condition from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                rest = text[at:].lstrip()
                raise _Fault(len(text) - len(rest), f"'{rest[:10]}' is neither a figure, a number nor a comparison.")
            kind = str(found.lastgroup)
            word = found.group(kind)
            self._tokens.append((word if word in _WORDS else kind, word, found.start(kind)))
            at = found.end()
        self._end, self._next = len(text), 0

    def read(self) -> Any:
        found = self._any(0)
        if self._next < len(self._tokens):
            _, word, at = self._tokens[self._next]
            raise _Fault(at, f"'{word}' was not expected here.")
        return found

    def _any(self, depth: int) -> Any:
        return self._chain("or", self._all, depth)

    def _all(self, depth: int) -> Any:
        return self._chain("and", self._one, depth)

    def _chain(self, word: str, part: Callable[[int], Any], depth: int) -> Any:
        parts = [part(depth)]
        while self._peek() == word:
            self._next += 1
            parts.append(part(depth))
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def _one(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise _Fault(self._at(), f"There are more than {DEEPEST} brackets in each other.")
        if self._peek() == "not":
            self._next += 1
            return Joined("not", (self._one(depth + 1),))
        if self._word() == "(":
            self._next += 1
            found = self._any(depth + 1)
            if self._word() != ")":
                raise _Fault(self._at(), "A closing bracket is missing.")
            self._next += 1
            return found
        left = self._side()
        sign = self._word()
        if sign not in _COMPARE:
            raise _Fault(self._at(), f"After '{left.text}' a comparison such as < or >= is missing.")
        self._next += 1
        return Comparison(left, sign, self._side())

    def _side(self) -> Side:
        kind, word = self._peek(), self._word()
        if kind not in ("number", "name"):
            raise _Fault(self._at(), "A figure or a number is missing.")
        value = float(word) if kind == "number" else None
        if value is not None and math.isinf(value):
            raise _Fault(self._at(), f"{word} is too large for a number.")
        self._next += 1
        return Side(word, value)

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _word(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else ""

    def _at(self) -> int:
        return self._tokens[self._next][2] if self._next < len(self._tokens) else self._end
