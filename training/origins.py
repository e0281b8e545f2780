"""Every setting of a job with where its value comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.choices import ROLES
from training.engine.config.training import TrainSettings
from training.form_fields import BLOCKS, BY_EFFORT, fields_of
from training.forms import EFFORTS, effort_of
from training.models import Job
from training.plan import flat, shown


@dataclass(frozen=True, slots=True)
class Value:
    """A setting as the configuration tab shows it. ``origin``: default, chosen, or a preset's name."""

    path: str
    label: str
    text: str
    unit: str
    origin: str


def resolved(job: Job) -> list[tuple[str, list[Value]]]:
    """Groups of settings: each catalog choice with its fields, then the rest. Imports: what was asked for."""
    if job.kind != Job.Kind.TRAIN:
        return [("Request", [Value(k, k, shown(v), "", "chosen") for k, v in flat(job.settings).items()])]
    values = flat(job.settings)
    defaults = flat(TrainSettings().model_dump(mode="json"))
    rows = job.dataset_version.rows_train if job.dataset_version else None
    effort = effort_of(job.settings, rows)
    groups = []
    general = [_value(field, values, defaults, effort) for field in fields_of(TrainSettings)]
    groups.append(("Training", general))
    for path, catalog in BLOCKS.items():
        name = str(values.get(path, ""))
        if name not in catalog:
            continue
        own = {f"{path}.{key}": v for key, v in catalog[name].settings(name=name).model_dump(mode="json").items()}
        title = TrainSettings.model_fields[path].title or path
        first = Value(path, title, catalog[name].label, "", "default" if defaults[path] == name else "chosen")
        fields = fields_of(catalog[name].settings, f"{path}.")
        groups.append((title, [first, *(_value(field, values, own, "") for field in fields)]))
    inputs = job.inputs.select_related("version__model")
    others = [Value(f"others.{one.role}", _role(one.role), str(one.version), "", "chosen") for one in inputs]
    return [*groups, ("Further models", others)] if others else groups


def _role(role: str) -> str:
    return ROLES[role][0] if role in ROLES else role.replace("_", " ")


def _value(field: Any, values: dict[str, Any], defaults: dict[str, Any], effort: str) -> Value:
    value = values.get(field.path)
    origin = "default" if value == defaults.get(field.path) else "chosen"
    if effort and field.path in BY_EFFORT and value is not None:
        origin = EFFORTS[effort].label
    text = ("–" if field.path in BY_EFFORT else "automatic") if value is None else shown(value)
    return Value(field.path, field.label, text, field.unit if value is not None else "", origin)
