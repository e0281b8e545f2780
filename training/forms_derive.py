"""Forms of what is made out of a model: a smaller model, or a data set of its answers. Texts in, arguments out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from registry.models import ModelVersion
from training.engine.config.derived import Draw
from training.engine.errors import Problem
from training.models import DatasetVersion

MOST = 200  # versions to choose from


@dataclass(frozen=True, slots=True)
class Box:
    """One field. ``rows``: what can be chosen; none: a text."""

    name: str
    label: str
    help: str
    value: str
    rows: tuple[tuple[str, str], ...] | None = None
    optional: bool = False
    problem: Problem | None = None

    @property
    def id(self) -> str:
        return f"f-{self.name}"


class DeriveForm(ABC):
    """``texts``: what was posted, or prefilled. Its subclasses say which boxes there are."""

    title: ClassVar[str]
    lede: ClassVar[str]
    submit: ClassVar[str]
    #: Box → the first part of where the service says that a problem lies.
    places: ClassVar[Mapping[str, str]]

    def __init__(self, user: Any, texts: Mapping[str, str], problems: list[Problem] | None = None) -> None:
        self.user, self.texts, self.problems = user, dict(texts), problems or []

    @abstractmethod
    def boxes(self) -> list[Box]:
        """The fields, with what stands in them and what is wrong."""

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """The arguments of the service."""

    def listed(self) -> list[dict[str, str]]:
        """All problems for the summary, each with its box."""
        labels = {box.name: box.label for box in self.boxes()}
        found = []
        for problem in self.problems:
            name = next((box for box, place in self.places.items() if problem.loc[:1] == (place,)), "")
            label, at = labels.get(name, ""), f"f-{name}" if name else ""
            found.append({"id": at, "label": label, "message": problem.message, "hint": problem.hint})
        return found

    def _box(self, name: str, label: str, text: str, rows: Any = None, default: str = "", **more: Any) -> Box:
        value = self.texts.get(name, default)
        problem = next((one for one in self.problems if one.loc[:1] == (self.places.get(name),)), None)
        return Box(name, label, text, value, None if rows is None else tuple(rows), problem=problem, **more)

    def _models(self) -> list[tuple[str, str]]:
        rows = ModelVersion.objects.visible_to(self.user).filter(model__deleted_at=None).select_related("model")
        trainable = [row for row in rows.order_by("-created_at")[:MOST] if row.is_trainable]
        return [(str(row.pk), f"{row} · {row.get_kind_display().lower()}") for row in trainable]


class StudentForm(DeriveForm):
    """A smaller model out of some layers of a larger one."""

    title: ClassVar[str] = "Smaller model"
    lede: ClassVar[str] = "Keeps some layers of a model. It speaks badly until it has learnt from the large one."
    submit: ClassVar[str] = "Make it"
    places: ClassVar[Mapping[str, str]] = {"model": "model_version_id", "layers": "layers", "name": "name"}

    def boxes(self) -> list[Box]:
        return [
            self._box("model", "Model", "The large one; it stays as it is.", self._models()),
            self._box(
                "layers", "Layers", "every_other, a number such as 12, or the layers: 0, 1, 2, 9.", None, "every_other"
            ),
            self._box("name", "Name", "", optional=True),
        ]

    def arguments(self) -> dict[str, Any]:
        parts = [part.strip() for part in self.texts.get("layers", "").split(",") if part.strip()]
        layers: Any = [int(part) if part.isdecimal() else part for part in parts]
        return {
            "model_version_id": self.texts.get("model", ""),
            "layers": layers if len(layers) > 1 else next(iter(layers), "every_other"),
            "name": self.texts.get("name", ""),
            "idempotency_key": self.texts.get("key", ""),
        }


class GeneratedForm(DeriveForm):
    """A data set in which a model answers the questions of another one."""

    title: ClassVar[str] = "Answers of a model as data"
    lede: ClassVar[str] = "A model answers the questions of a data set; a smaller one can learn from them by SFT."
    submit: ClassVar[str] = "Let it answer"
    draws: ClassVar[tuple[tuple[str, str], ...]] = (
        ("max_tokens", "Longest answer"),
        ("samples", "Answers to each question"),
        ("temperature", "Temperature"),
        ("rows", "Most rows"),
    )
    places: ClassVar[Mapping[str, str]] = {
        "model": "model_version_id",
        "data": "dataset_version_id",
        "name": "name",
        **{name: name for name, _ in draws},
    }

    def boxes(self) -> list[Box]:
        data = DatasetVersion.objects.visible_to(self.user).filter(dataset__deleted_at=None).select_related("dataset")
        sets = [(str(row.pk), f"{row} · {row.data_format}") for row in data.order_by("-created_at")[:MOST]]
        fields = Draw.model_fields
        return [
            self._box("model", "Model", "It answers.", self._models()),
            self._box("data", "Questions", "Only the questions of its rows are used.", sets),
            *(
                self._box(name, label, fields[name].description or "", None, str(fields[name].default))
                for name, label in self.draws
            ),
            self._box("name", "Name", "", optional=True),
        ]

    def arguments(self) -> dict[str, Any]:
        drawn = {name: text for name, _ in self.draws if (text := self.texts.get(name, "").strip())}
        return {
            "model_version_id": self.texts.get("model", ""),
            "dataset_version_id": self.texts.get("data", ""),
            "draw": drawn,
            "name": self.texts.get("name", ""),
            "idempotency_key": self.texts.get("key", ""),
        }
