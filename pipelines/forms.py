"""The form of a new run: what is chosen for each input, out of what fits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.definition import INPUTS, Definition, Input
from registry.models import ModelVersion
from training.engine.errors import Problem
from training.models import DatasetVersion

MOST = 200  # versions to choose from
PREFIX = "input-"


@dataclass(frozen=True, slots=True)
class Field:
    """One input: a box of versions to choose from, or a number."""

    name: str
    label: str
    type: str
    help: str
    value: str
    rows: list[tuple[str, str]]
    problems: list[Problem]
    first: str = "Choose one"

    @property
    def id(self) -> str:
        return f"f-{self.name}"

    @property
    def is_number(self) -> bool:
        return self.type == "number"

    @property
    def wanted(self) -> str:
        """What there is none of, in words; nothing if there is something to choose."""
        return "" if self.is_number or self.rows else LACKING.get(self.type, "")

    @property
    def described(self) -> str:
        """Ids of the hint and the error, for screen readers."""
        parts = [("hint", self.help or self.wanted), ("error", self.problems)]
        return " ".join(f"{self.id}-{part}" for part, there in parts if there)


LACKING = {
    "model": "There is no model yet.",
    "reward_model": "There is no reward model yet. Train one with the method 'Reward model'.",
    "dataset": "There is no data set of this form yet.",
}


class RunForm:
    """``texts``: what was posted, or what an earlier run was started with, by input."""

    def __init__(
        self, user: Any, definition: Definition, texts: Mapping[str, str], problems: Sequence[Problem] = ()
    ) -> None:
        self.texts, self.problems = dict(texts), list(problems)
        self._user, self._definition = user, definition

    @classmethod
    def posted(cls, post: Mapping[str, Any]) -> dict[str, str]:
        """The inputs of a request, by name."""
        return {key.removeprefix(PREFIX): str(post[key]) for key in post if key.startswith(PREFIX)}

    def fields(self) -> list[Field]:
        """All inputs in their order."""
        taken: set[str] = set()
        return [self._field(name, one, taken) for name, one in self._definition.inputs.items()]

    def listed(self) -> list[dict[str, str]]:
        """All problems for the summary, each with the field that it belongs to."""
        return [self._listed(problem) for problem in self.problems]

    def _listed(self, problem: Problem) -> dict[str, str]:
        own = len(problem.loc) == 2 and problem.loc[0] == INPUTS and problem.loc[1] in self._definition.inputs
        name = str(problem.loc[1]) if own else ""
        label = (self._definition.inputs[name].label or name) if own else ""
        message = problem.message.removeprefix(f"'{label}' is ")  # the label stands before it
        message = message[:1].upper() + message[1:]
        return {"id": f"f-{name}" if own else "", "label": label, "message": message, "hint": problem.hint}

    def _field(self, name: str, one: Input, taken: set[str]) -> Field:
        mine = [problem for problem in self.problems if problem.loc == (INPUTS, name)]
        rows = [] if one.type == "number" else self._rows(one)
        value = self.texts.get(name)
        if value is None:
            value = self._usual(one, rows, taken)
        elif one.type != "number" and value not in dict(rows):
            value = ""
        taken.add(one.type)
        text = one.help
        if one.formats and not text:
            text = f"Rows of the form {' or '.join(one.formats)}."
        return Field(name, one.label or name.replace("_", " "), one.type, text, value, rows, mine)

    def _usual(self, one: Input, rows: list[tuple[str, str]], taken: set[str]) -> str:
        """What stands there first: the newest that fits, but never the same model twice."""
        if one.type == "number":
            return "" if one.default is None else f"{one.default:g}"
        return rows[0][0] if rows and (one.type == "dataset" or one.type not in taken or len(rows) == 1) else ""

    def _rows(self, one: Input) -> list[tuple[str, str]]:
        if one.type == "dataset":
            data = DatasetVersion.objects.visible_to(self._user).filter(dataset__deleted_at=None)
            if one.formats:
                data = data.filter(data_format__in=one.formats)
            found = data.select_related("dataset").order_by("-created_at")[:MOST]
            return [(str(row.pk), f"{row} · {row.data_format}, {row.rows_train:,} rows") for row in found]
        versions = ModelVersion.objects.visible_to(self._user).filter(model__deleted_at=None)
        versions = versions.exclude(kind=ModelVersion.Kind.ADAPTER, base=None).select_related("model", "base__model")
        wants_judge = one.type == "reward_model"
        models = [row for row in versions.order_by("-created_at") if row.is_reward_model or not wants_judge][:MOST]
        models.sort(key=lambda row: row.kind != ModelVersion.Kind.BASE)
        return [(str(row.pk), f"{row} · {row.get_kind_display().lower()}") for row in models]
