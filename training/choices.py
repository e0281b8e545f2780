"""What can be chosen in the form of a new training, and what is: a method, models by role, a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from registry.models import ModelVersion
from training.engine.catalog.formats import FORMATS
from training.engine.catalog.method_settings import MethodSettings
from training.engine.catalog.methods import METHODS
from training.engine.catalog.rows import Row
from training.engine.config.imports import DOCS_FORMS
from training.models import DatasetVersion

#: What a further model is to people: its name, what it does, and what to do when there is none.
ROLES = {
    "teacher": (
        "Teacher",
        "The model to learn from. It must know the same tokens, so choose a larger one of the same family.",
        "Import a larger model of the same family.",
    ),
    "reward_model": (
        "Reward model",
        "Scores the answers. Only versions with a score head are listed.",
        "Train one first: choose the method 'Reward model' and a data set of pairs.",
    ),
}


@dataclass(frozen=True, slots=True)
class Unfit:
    """A data set that the method cannot read, and why."""

    version: DatasetVersion
    why: str


@dataclass(frozen=True, slots=True)
class Picker:
    """A further model to choose."""

    role: str
    label: str
    help: str
    otherwise: str
    versions: list[ModelVersion]
    chosen: ModelVersion | None

    @property
    def name(self) -> str:
        """The name of its inputs."""
        return f"others.{self.role}"

    @property
    def nothing(self) -> str:
        """Said where there is none."""
        return f"No {self.label.lower()} yet"


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be chosen, and what is."""

    method: Row
    models: list[ModelVersion]
    data: list[DatasetVersion]
    unfit: list[Unfit]
    others: list[Picker]
    model: ModelVersion | None
    dataset: DatasetVersion | None

    @property
    def rows(self) -> int | None:
        """Rows to train on, if a data set is chosen."""
        return self.dataset.rows_train if self.dataset else None

    @property
    def roles(self) -> str:
        """The further models that are asked for, as one word for a hidden input."""
        return ",".join(picker.role for picker in self.others)

    @property
    def chosen_others(self) -> dict[str, ModelVersion]:
        """The further models that are chosen, by role."""
        return {picker.role: picker.chosen for picker in self.others if picker.chosen is not None}

    @property
    def is_complete(self) -> bool:
        """Whether there is something to choose everywhere."""
        return bool(self.models and self.data) and all(picker.versions for picker in self.others)

    @property
    def forms(self) -> str:
        """The row formats that the method reads, in words; a single one is explained."""
        known = [FORMATS[name] for name in reads(self.method) if name in FORMATS]
        if len(known) == 1:
            return f"{known[0].label} ({known[0].summary[:1].lower()}{known[0].summary[1:].rstrip('.')})"
        return ", ".join(row.label for row in known)

    @property
    def demo_form(self) -> str:
        """The form of Python's documentation that the method can learn from; the page to make it links there."""
        return next((name for name in reads(self.method) if name in DOCS_FORMS), "chat")


def reads(method: Row) -> tuple[str, ...]:
    """The row formats that a method can train on."""
    settings: Any = method.settings
    return tuple(settings.reads)


def method_for(data_format: str) -> str:
    """The first method that reads such rows; the first of all if none does."""
    return next((row.name for row in METHODS if data_format in reads(row)), METHODS.names[0])


def grouped() -> list[tuple[str, list[Row]]]:
    """The methods by family, in the catalog's order."""
    groups: dict[str, list[Row]] = {}
    for row in METHODS:
        settings: Any = row.settings
        groups.setdefault(settings.group, []).append(row)
    return list(groups.items())


def choices_of(user: Any, texts: Mapping[str, str], settings: MethodSettings | None = None) -> Choices:
    """Newest version of each model (adapters last) and of each data set, and the chosen ones.

    ``settings``: the method's, as far as they are right; they say which further models it needs.
    """
    name = texts.get("method", "")
    method = METHODS[name if name in METHODS else METHODS.names[0]]
    adapter = ModelVersion.Kind.ADAPTER
    found = ModelVersion.objects.visible_to(user).select_related("model", "base__model")
    models = list(found.filter(model__deleted_at=None).exclude(kind=adapter, base=None).order_by("model_id", "-n"))
    shown = _newest(models, "model_id", texts.get("model", ""))
    shown.sort(key=lambda version: version.kind == adapter)
    data = DatasetVersion.objects.visible_to(user).select_related("dataset").filter(dataset__deleted_at=None)
    rows = _newest(list(data.order_by("dataset_id", "-n")), "dataset_id", texts.get("data", ""))
    fit = [version for version in rows if version.data_format in reads(method)]
    return Choices(
        method,
        shown,
        fit,
        [Unfit(version, _why(version)) for version in rows if version not in fit],
        [_picker(role, models, texts) for role in _roles(method, settings)],
        _chosen(shown, texts.get("model")),
        _chosen(fit, texts.get("data"), others=rows),
    )


def _roles(method: Row, settings: MethodSettings | None) -> Iterable[str]:
    """The roles that are asked for; those that may be, where the settings are not right yet."""
    kind: Any = method.settings
    return settings.needs if settings is not None else kind.takes


def _picker(role: str, models: list[ModelVersion], texts: Mapping[str, str]) -> Picker:
    """Further models for a role: reward models are those with a score head; of the others the newest versions."""
    wanted = texts.get(f"others.{role}", "")
    fit = [version for version in models if version.is_reward_model] if role == "reward_model" else models
    versions = _newest(fit, "model_id", wanted)
    first = versions[0] if len(versions) == 1 and role == "reward_model" else None
    label, about, otherwise = ROLES[role]
    return Picker(role, label, about, otherwise, versions, _chosen(versions, wanted) if wanted else first)


def _why(version: DatasetVersion) -> str:
    label = FORMATS[version.data_format].label if version.data_format in FORMATS else version.data_format
    return f"holds rows of the form {label}"


def _newest(rows: list[Any], group: str, wanted: str) -> list[Any]:
    """The first row of each group and the wanted one, the newest first."""
    seen: set[Any] = set()
    kept = []
    for row in rows:
        if getattr(row, group) not in seen or str(row.pk) == wanted:
            kept.append(row)
        seen.add(getattr(row, group))
    return sorted(kept, key=lambda row: row.created_at, reverse=True)


def _chosen(rows: list[Any], wanted: str | None, others: Iterable[Any] = ()) -> Any:
    """The wanted row; without a wish, or where it lies among ``others``, the newest; None for one that is nowhere."""
    if wanted and not any(str(row.pk) == wanted for row in others if row not in rows):
        return next((row for row in rows if str(row.pk) == wanted), None)
    return rows[0] if rows else None
