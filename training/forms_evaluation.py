"""The form of a new evaluation: texts in, what the service takes out. Its fields come from ``EvaluateSettings``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from registry.models import ModelVersion
from training.engine.catalog.rules import RULES
from training.engine.config.evaluations import EvaluateSettings
from training.engine.errors import Problem
from training.form_fields import FormField, belongs, fields_of, same, sentence
from training.models import Checkpoint, DatasetVersion, Job

MOST = 200  # models or data sets to choose from
#: Where a problem of a choice is shown, and what the choice is called: by the service's argument.
CHOICES = {
    "model_version_id": ("model", "Model"),
    "checkpoint_id": ("model", "Checkpoint"),
    "dataset_version_id": ("data", "Data"),
    "reward_version_id": ("reward", "Reward model"),
    "baseline_version_id": ("baseline", "Baseline"),
    "name": ("name", "Name"),
}
#: A line for each rule, to begin with.
EXAMPLES = {
    "exact_answer": "exact_answer",
    "regex": "regex pattern='^(yes|no)\\b' ignore_case=on",
    "json_schema": 'json_schema definition=\'{"type": "object"}\'',
    "length": "length at_most=64 soft=32",
    "format": "format tags=think",
    "python_function": "python_function module=rewards.py",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A box of rows to choose one from. ``nothing``: what no choice is called, "" where one must be made."""

    name: str
    label: str
    help: str
    rows: list[tuple[str, str]]
    value: str
    nothing: str = ""
    problem: Problem | None = None

    @property
    def id(self) -> str:
        return f"f-{self.name}"


@lru_cache(maxsize=1)
def _fields() -> tuple[FormField, ...]:
    return tuple(fields_of(EvaluateSettings))


class EvaluationForm:
    """``texts``: what was posted, or prefilled."""

    def __init__(self, user: Any, texts: Mapping[str, str], problems: list[Problem] | None = None) -> None:
        self.texts = {key: text.replace("\r\n", "\n") for key, text in texts.items()}
        self.problems = problems or []
        self._user = user
        jobs = Job.objects.visible_to(user).present()
        wanted = Checkpoint.objects.filter(job__in=jobs, removed_at=None).select_related("job")
        key = self.texts.get("checkpoint", "")
        self.checkpoint: Checkpoint | None = next((row for row in wanted.filter(pk=key)), None) if key else None

    def raw(self) -> dict[str, Any]:
        """The settings as the API would get them: only what differs from the defaults."""
        raw: dict[str, Any] = {}
        for field in _fields():
            control = field.controls[0]
            text = self.texts.get(control.name, control.default).strip()
            if text and not same(text, control.default):
                lines = [line.strip() for line in text.split("\n") if line.strip()]
                raw[field.path] = lines if control.kind == "lines" else text
        return raw

    def arguments(self) -> dict[str, Any]:
        """The arguments of the service."""
        subject = {"checkpoint_id": self.texts["checkpoint"]} if self.texts.get("checkpoint") else {}
        return {
            "model_version_id": "" if subject else self.texts.get("model", ""),
            **subject,
            "dataset_version_id": self.texts.get("data", ""),
            "reward_version_id": self.texts.get("reward", ""),
            "baseline_version_id": self.texts.get("baseline", ""),
            "settings": self.raw(),
            "name": self.texts.get("name", ""),
            "idempotency_key": self.texts.get("key", ""),
        }

    def fields(self, level: str) -> list[FormField]:
        """The settings of one disclosure level, with what stands in them and what is wrong."""
        return [field for field in self._filled() if field.level == level]

    def _filled(self) -> Iterator[FormField]:
        for field in _fields():
            controls = tuple(replace(c, value=self.texts.get(c.name, c.default)) for c in field.controls)
            mine = tuple(p for p in self.problems if belongs(p, field.path))
            yield replace(field, controls=controls, problems=mine, placeholder="none")

    def choices(self) -> list[Choice]:
        """Model, data, reward model, baseline."""
        versions = ModelVersion.objects.visible_to(self._user).filter(model__deleted_at=None)
        versions = versions.exclude(kind=ModelVersion.Kind.ADAPTER, base=None).select_related("model")
        rows = list(versions.order_by("-created_at")[:MOST])
        data = DatasetVersion.objects.visible_to(self._user).filter(dataset__deleted_at=None)
        sets = list(data.select_related("dataset").order_by("-created_at")[:MOST])
        models = [(str(row.pk), f"{row} · {row.get_kind_display().lower()}") for row in rows]
        judges = [(str(row.pk), str(row)) for row in rows if row.is_reward_model]
        said = "No reward model yet: train one with the method 'Reward model'." if not judges else ""
        first = [] if self.checkpoint else [self._choice("model_version_id", "", models)]
        return [
            *first,
            self._choice("dataset_version_id", "", [(str(row.pk), _words(row)) for row in sets]),
            self._choice("reward_version_id", said or "Gives each answer a score.", judges, "none"),
            self._choice(
                "baseline_version_id", "Answers the same prompts; the reward model says who wins.", models, "none"
            ),
        ]

    def _choice(self, argument: str, text: str, rows: list[tuple[str, str]], nothing: str = "") -> Choice:
        name, label = CHOICES[argument]
        value = self.texts.get(name, "")
        if not nothing and not value and rows:
            value = rows[0][0]
        if value and value not in dict(rows):
            value = ""
        problem = next((p for p in self.problems if p.loc == (argument,)), None)
        return Choice(name, label, text, rows, value, nothing, problem)

    def listed(self) -> list[dict[str, str]]:
        """All problems for the summary, each with the control that it belongs to."""
        return [self._listed(problem) for problem in self.problems]

    def _listed(self, problem: Problem) -> dict[str, str]:
        path = ".".join(map(str, problem.loc))
        name, label = CHOICES.get(path, ("", ""))
        if not name:
            field = next((f for f in _fields() if belongs(problem, f.path)), None)
            name, label = (field.path, field.label) if field else ("", path)
        return {"id": f"f-{name}" if name else "", "label": label, "message": sentence(problem), "hint": problem.hint}


def rule_lines() -> list[tuple[str, str, str]]:
    """Label, summary and an example line of each rule."""
    return [(row.label, row.summary, EXAMPLES[row.name]) for row in RULES]


def _words(row: DatasetVersion) -> str:
    counts = {"train": row.rows_train, "valid": row.rows_valid, "test": row.rows_test}
    return f"{row} · {row.data_format} · " + ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
