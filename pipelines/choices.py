"""What a run begins with, told by names that people know."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from mlxplatform.core.errors import Invalid
from pipelines import preflight
from pipelines.definition import INPUTS, Definition
from registry.models import RegisteredModel
from training.engine.errors import Problem
from training.models import Dataset

MOST_KNOWN = 20


def named(user: Any, definition: Definition, words: Mapping[str, str]) -> dict[str, Any]:
    """``words`` with the names of models and data sets replaced by the ids of their newest versions.

    Ids and numbers stay as they are. Raises Invalid with all that is wrong with the choice.
    """
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, word in words.items():
        wanted = definition.inputs.get(name)
        if wanted is None or wanted.type == "number" or not word or _is_id(word):
            found[name] = word
        elif (version := _newest(user, wanted.type, word)) is not None:
            found[name] = str(version.pk)
        else:
            problems.append(_unknown(user, name, wanted.type, word))
    if problems:
        told = {problem.loc for problem in problems}
        more = [problem for problem in preflight.chosen(user, definition, found)[1] if problem.loc not in told]
        raise Invalid.of(problems + more)
    return found


def _is_id(word: str) -> bool:
    try:
        uuid.UUID(word)
    except ValueError:
        return False
    return True


def _rows(user: Any, kind: str) -> Any:
    table: Any = Dataset if kind == "dataset" else RegisteredModel
    return table.objects.visible_to(user).filter(deleted_at=None)


def _newest(user: Any, kind: str, name: str) -> Any:
    """The newest version of the newest thing of that name, or None."""
    found = _rows(user, kind).filter(name=name).order_by("-created_at").first()
    return found.newest if found is not None else None


def _unknown(user: Any, name: str, kind: str, word: str) -> Problem:
    what = "data set" if kind == "dataset" else "model"
    known = ", ".join(_rows(user, kind).order_by("name").values_list("name", flat=True)[:MOST_KNOWN]) or "none"
    text = f"There is no {what} '{word[:60]}' with a version."
    return Problem((INPUTS, name), "input.gone", text, f"There are: {known}.")
