"""Compares an answer with the reference, as text or as a number."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from training.engine.catalog.rules import ExactAnswer as Settings
from training.engine.errors import DataError
from training.engine.rules.rule import Messages, Rule

LONGEST = 100_000  # characters of an answer; its end is looked at, where results stand
_MARK = "####"
_BOXED = ("\\boxed{", "\\fbox{")
#: Bounded repeats of single characters: linear in the text.
_NUMBER = re.compile(r"-?(?:\d[\d,]{0,40}(?:\.\d{1,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3}(?!\d))?(?:/\d{1,20})?")
_FRACTION = re.compile(r"\\[dt]?frac\{(-?\d{1,20})\}\{(\d{1,20})\}")
_AROUND = "$€£¥% \t\n.*_"
_NO_WORD = re.compile(r"[^\w\s]|_")


class ExactAnswer(Rule):
    """1 if the extracted answer is the reference's, else 0.

    Of the reference, what follows #### or stands in \\boxed{} counts if it has one, else all of it.
    Raises DataError ``rule.no_reference``.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def score(self, prompt: Messages, answer: str, reference: str | None, tokens: int) -> float:
        del prompt, tokens
        if reference is None:
            raise DataError(
                "rule.no_reference",
                "A row has no reference answer, and the rule exact_answer compares with one.",
                "Leave the rule out, or give every row an answer.",
            )
        wanted = _wanted(reference)
        given = self._given(answer[-LONGEST:], wanted)
        return float(given is not None and self._equal(given, wanted))

    def _given(self, answer: str, wanted: str) -> str | None:
        how = self.settings.extract
        if how == "auto":
            found = after_mark(answer)
            found = boxed(answer) if found is None else found
            if found is not None:
                return found
            how = "last_number" if self.settings.numbers and number(wanted) is not None else "all"
        if how == "marked":
            return after_mark(answer)
        if how == "boxed":
            return boxed(answer)
        if how == "last_number":
            return last_number(answer)
        lines = answer.strip().splitlines()
        return (lines[-1] if lines else "") if how == "last_line" else answer

    def _equal(self, given: str, wanted: str) -> bool:
        if self.settings.numbers:
            one, other = number(given), number(wanted)
            if one is not None and other is not None:
                return one == other
        return self._plain(given) == self._plain(wanted)

    def _plain(self, text: str) -> str:
        text = unicodedata.normalize("NFKC", text)
        text = text.casefold() if self.settings.ignore_case else text
        text = _NO_WORD.sub(" ", text) if self.settings.ignore_punctuation else text
        return " ".join(text.split())


def after_mark(text: str) -> str | None:
    """The rest of the line after the last ####, as GSM8K marks results (Cobbe et al. 2021, arXiv 2110.14168)."""
    _, mark, rest = text.rpartition(_MARK)
    return rest.strip().partition("\n")[0].strip() if mark else None


def boxed(text: str) -> str | None:
    """What the last \\boxed{} holds, braces in it included, as MATH marks results (arXiv 2103.03874)."""
    start, opening = max((text.rfind(word), word) for word in _BOXED)
    if start < 0:
        return None
    begin, depth = start + len(opening), 1
    for at in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[begin:at].strip()
    return None


def last_number(text: str) -> str | None:
    """The last number in ``text``, as it is written there."""
    found = None
    for found in _NUMBER.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    return found.group() if found is not None else None


def number(text: str) -> Fraction | None:
    """The number that ``text`` is, exactly; None if it is something else. 1,000 = 1000.0; 1/2 = \\frac{1}{2} = 0.5."""
    text = text.strip(_AROUND).replace("−", "-").removeprefix("\\$").strip(_AROUND)
    if text[:2] in ("-$", "-€", "-£", "-¥"):
        text = f"-{text[2:]}"
    if found := _FRACTION.fullmatch(text):
        text = f"{found[1]}/{found[2]}"
    if len(text) > 100 or not _NUMBER.fullmatch(text):
        return None
    value, _, below = text.replace(",", "").partition("/")
    if below and not int(below):
        return None
    return Fraction(value) / (int(below) if below else 1)


def _wanted(reference: str) -> str:
    found = after_mark(reference)
    found = boxed(reference) if found is None else found
    return reference if found is None else found
