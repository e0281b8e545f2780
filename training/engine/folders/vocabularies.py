"""What the tokens of two models mean, told from their files alone: whether one can teach the other.

A teacher is given the student's token ids. So every token of the student must be the same text to the teacher;
tokens that only the teacher knows do no harm.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.engine.errors import Problem

MOST_BYTES = 256 << 20  # of a file that is read
_CONFIG_BYTES = 16 << 20
_HINT = "Choose a teacher of the student's own family, or let the teacher write a data set and train on that."


def problem(student: Path, teacher: Path, most_bytes: int = MOST_BYTES) -> Problem | None:
    """Why the model in folder ``teacher`` cannot teach the one in ``student``; None if nothing speaks against it.

    None also where a tokenizer cannot be read or is larger than ``most_bytes``: loading it says what is wrong.
    """
    files = (student / "tokenizer.json", teacher / "tokenizer.json")
    try:
        if filecmp.cmp(*files, shallow=False):
            return None
        if max(file.stat().st_size for file in files) > most_bytes:
            return None
        one, other = (read(file) for file in files)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return compared(one, other)


def compared(student: Mapping[str, int], teacher: Mapping[str, int]) -> Problem | None:
    """The same of two vocabularies, text to id."""
    foreign = [text for text, index in student.items() if teacher.get(text) != index]
    if not foreign:
        return None
    text = min(foreign, key=lambda text: (student[text], text))
    there = f"its number {teacher[text]}" if text in teacher else "unknown to it"
    return Problem(
        ("others", "teacher"),
        "teacher.other_tokenizer",
        f"The teacher has another tokenizer: {len(foreign)} of the student's {len(student)} tokens differ; "
        f"the student's token {student[text]}, {text[:40]!r}, is {there}.",
        _HINT,
    )


def read(file: Path) -> dict[str, int]:
    """Every token of a ``tokenizer.json``, text to id. Raises OSError, ValueError, KeyError, TypeError."""
    about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    known = about["model"]["vocab"]
    # A unigram model lists pairs of token and score, the others map tokens to ids.
    tokens = dict(known) if isinstance(known, dict) else {pair[0]: i for i, pair in enumerate(known)}
    return tokens | {token["content"]: token["id"] for token in about.get("added_tokens") or []}


def size(model: Path) -> int | None:
    """How many tokens the model in this folder tells apart, as its config.json says; None if it does not."""
    path = model / "config.json"
    try:
        if path.stat().st_size > _CONFIG_BYTES:
            return None
        about = json.loads(path.read_text(encoding="utf-8"))
        found = about.get("vocab_size") or (about.get("text_config") or {}).get("vocab_size")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, int) and found > 0 else None


def beyond(k: int, model: Path) -> Problem | None:
    """Why not ``k`` tokens of the model in this folder can be kept; None if nothing speaks against it."""
    known = size(model)
    if known is None or k <= known:
        return None
    return Problem(
        ("method", "top_k"),
        "teacher.top_k",
        f"The teacher tells {known} tokens apart, so its {k} likeliest cannot be kept.",
        f"Set the teacher's tokens to at most {known}; 64 is usual, 0 takes all of them.",
    )
