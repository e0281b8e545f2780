"""The form of a new training, drawn by walking the schema of ``TrainSettings`` and the engine's catalog.

No field is written by hand: a new setting or catalog row appears here by itself, with its words, unit,
limits and disclosure level. The browser posts text under dotted names (``optimizer.betas.0``); pydantic
turns it into values, so that form, API and command line share every rule and every sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from training.engine.catalog.adapters import ADAPTERS
from training.engine.catalog.methods import METHODS
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.rows import Catalog
from training.engine.catalog.schedules import SCHEDULES
from training.engine.config import TrainSettings, check
from training.engine.errors import ConfigError, Problem

#: Settings that are one row of a catalog; each is drawn as a choice that brings its own fields.
BLOCKS: dict[str, Catalog] = {
    "method": METHODS,
    "adapter": ADAPTERS,
    "optimizer": OPTIMIZERS,
    "lr_schedule": SCHEDULES,
}
#: Settings that "how thorough" decides unless a person does.
BY_EFFORT = ("epochs", "iters", "patience")
TASTE_STEPS = 100


@dataclass(frozen=True, slots=True)
class Effort:
    """A preset of how long to train."""

    name: str
    label: str
    summary: str
    epochs: float
    patience: int

    def settings(self, updates_per_epoch: int | None) -> dict[str, Any]:
        """Values for :data:`BY_EFFORT`; Taste counts updates where an epoch is longer than 100 of them."""
        if self.name == "taste" and (updates_per_epoch or TASTE_STEPS + 1) > TASTE_STEPS:
            return {"iters": TASTE_STEPS, "patience": self.patience}
        return {"epochs": self.epochs, "patience": self.patience}


EFFORTS = {
    effort.name: effort
    for effort in (
        Effort("taste", "Taste", "At most 100 steps. Shows whether data and settings work.", 1, 0),
        Effort("standard", "Standard", "Up to 3 passes over the data; stops when it no longer improves.", 3, 3),
        Effort("long", "Long", "Up to 10 passes, with more patience. For hard tasks and little data.", 10, 5),
    )
}


@dataclass(frozen=True, slots=True)
class Control:
    """One input of the page. ``kind``: number, text, lines, flag or choice."""

    name: str
    kind: str
    default: str = ""
    low: float | None = None
    high: float | None = None
    step: str = "any"
    choices: tuple[tuple[str, str], ...] = ()
    required: bool = False
    value: str = ""

    @property
    def id(self) -> str:
        """The element's id: problems link to it."""
        return "f-" + self.name.replace(".", "-")

    @property
    def is_on(self) -> bool:
        """Whether a flag is set."""
        return self.value in {"on", "true", "True", "1"}


@dataclass(frozen=True, slots=True)
class FormField:
    """A setting with the words beside it; a pair such as betas has two controls."""

    path: str
    label: str
    help: str
    unit: str
    level: str
    controls: tuple[Control, ...]
    problems: tuple[Problem, ...] = ()
    placeholder: str = ""

    @property
    def id(self) -> str:
        return self.controls[0].id

    @property
    def changed(self) -> bool:
        """Whether a value other than the default stands in it."""
        return any(not _same(control.value, control.default) for control in self.controls)

    @property
    def sentences(self) -> list[str]:
        """What is wrong with it, for beside the control, which names it already."""
        return [f"{sentence(problem)} {problem.hint}".strip() for problem in self.problems]

    @property
    def words(self) -> str:
        """What the search box looks through."""
        return f"{self.label} {self.path} {self.help}".lower()


@dataclass(frozen=True, slots=True)
class Block:
    """A choice among the rows of a catalog, and the fields of the chosen row."""

    path: str
    label: str
    chosen: str
    catalog: Catalog
    fields: tuple[FormField, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def summary(self) -> str:
        """What the chosen row is."""
        return self.catalog[self.chosen].summary if self.chosen in self.catalog else ""

    @property
    def changed(self) -> bool:
        return self.chosen != self.catalog.names[0]


def fields_of(model: Any, prefix: str = "") -> Iterator[FormField]:
    """The fields of a pydantic model, in the order of its definition, without ``name`` and catalog blocks."""
    for name, schema in model.model_json_schema()["properties"].items():
        if name == "name" or (not prefix and name in BLOCKS):
            continue
        path = f"{prefix}{name}"
        controls = tuple(_controls(path, schema))
        yield FormField(
            path,
            schema["title"],
            schema.get("description", ""),
            schema.get("unit", ""),
            schema.get("level", "expert"),
            controls,
        )


def _controls(path: str, schema: Mapping[str, Any]) -> Iterator[Control]:
    default = schema.get("default")
    if "anyOf" in schema:  # a value or nothing
        schema = {**schema, **next(part for part in schema["anyOf"] if part.get("type") != "null")}
    if schema.get("prefixItems"):
        for i, part in enumerate(schema["prefixItems"]):
            yield _control(f"{path}.{i}", part, default[i] if default else None)
    else:
        yield _control(path, schema, default)


def _control(name: str, schema: Mapping[str, Any], default: Any) -> Control:
    text = "" if name in BY_EFFORT else as_text(default)
    if "enum" in schema:
        return Control(name, "choice", text, choices=tuple((word, word) for word in schema["enum"]), value=text)
    kind = schema["type"]
    if kind == "boolean":
        return Control(name, "flag", text, value=text)
    if kind in {"array", "object"}:
        return Control(name, "lines", text, value=text)
    if kind in {"integer", "number"}:
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        return Control(name, "number", text, low, high, "1" if kind == "integer" else "any", value=text)
    if kind == "string":
        return Control(name, "text", text, value=text)
    raise TypeError(f"the form has no control for {name}: {schema}")


def as_text(value: Any) -> str:
    """A setting's value as it stands in an input; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return "\n".join(map(str, value))
    if isinstance(value, Mapping):
        return "\n".join(f"{key}={as_text(part)}" for key, part in value.items())
    return str(value)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings as the texts of the form's controls: ``{"optimizer": "adamw", "optimizer.eps": "1e-08"}``."""
    texts: dict[str, str] = {}
    for key, value in settings.items():
        if key in BLOCKS and isinstance(value, Mapping):
            texts[key] = str(value.get("name", ""))
            texts |= flatten({k: v for k, v in value.items() if k != "name"}, f"{key}.")
        elif prefix + key in _pairs() and isinstance(value, list | tuple):  # eps is a pair of one optimizer only
            texts |= {f"{prefix}{key}.{i}": as_text(part) for i, part in enumerate(value)}
        else:
            texts[prefix + key] = as_text(value)
    return texts


@lru_cache(maxsize=1)
def _all_fields() -> dict[str, tuple[FormField, ...]]:
    """Every field there is, by block and row; the settings outside the blocks under the empty name."""
    table = {"": tuple(fields_of(TrainSettings))}
    for path, catalog in BLOCKS.items():
        for row in catalog:
            table[f"{path}={row.name}"] = tuple(fields_of(row.settings, f"{path}."))
    return table


@lru_cache(maxsize=1)
def _pairs() -> frozenset[str]:
    return frozenset(f.path for fields in _all_fields().values() for f in fields if len(f.controls) > 1)


def _same(left: str, right: str) -> bool:
    if left == right:
        return True
    try:
        return float(left) == float(right)
    except ValueError:
        return left.split() == right.split() and "\n" in left + right


class SettingsForm:
    """The settings part of the form: texts in, checked settings or problems out.

    ``texts``: what was posted or prefilled. ``updates_per_epoch``: optimizer updates in one pass over
    the chosen data at this batch size, for the presets; None when no data set is chosen.
    """

    def __init__(self, texts: Mapping[str, str], rows: int | None = None) -> None:
        self.texts = {key: text.replace("\r\n", "\n") for key, text in texts.items()}
        self.rows = rows
        self.problems: list[Problem] = []
        self.settings: TrainSettings | None = None

    @property
    def effort(self) -> Effort:
        """The chosen preset; Standard when none is."""
        return EFFORTS.get(self.texts.get("effort", ""), EFFORTS["standard"])

    def raw(self) -> dict[str, Any]:
        """The request as the API would get it: only what differs from the defaults or was typed."""
        raw: dict[str, Any] = {}
        for path in BLOCKS:
            raw[path] = {"name": self._chosen(path)}
            for field in _all_fields().get(f"{path}={self._chosen(path)}", ()):
                self._put(raw[path], field, field.path.removeprefix(f"{path}."))
        for field in _all_fields()[""]:
            self._put(raw, field, field.path)
        return self._with_effort(raw)

    def _put(self, raw: dict[str, Any], field: FormField, key: str) -> None:
        texts = [self.texts.get(control.name, control.default).strip() for control in field.controls]
        if not any(texts) or all(_same(t, c.default) for t, c in zip(texts, field.controls, strict=True)):
            return
        if len(field.controls) > 1:
            raw[key] = texts
        elif field.controls[0].kind == "lines":
            raw[key] = [line for line in (part.strip() for part in texts[0].split("\n")) if line]
        else:
            raw[key] = texts[0]

    def _with_effort(self, raw: dict[str, Any]) -> dict[str, Any]:
        preset = self.effort.settings(self._updates_per_epoch(raw))
        if "epochs" in raw or "iters" in raw:
            preset = {"patience": preset["patience"]}
        return {**preset, **raw}

    def _updates_per_epoch(self, raw: Mapping[str, Any]) -> int | None:
        try:
            per_update = int(raw.get("batch_size", 4)) * int(raw.get("grad_accumulation_steps", 1))
            return -(-self.rows // per_update) if self.rows else None
        except (ValueError, ZeroDivisionError):
            return None

    def _chosen(self, path: str) -> str:
        return self.texts.get(path, "") or BLOCKS[path].names[0]

    def is_valid(self) -> bool:
        """Check all settings; ``settings`` is set, or ``problems`` are."""
        try:
            self.settings = check(TrainSettings, self.raw())
        except ConfigError as error:
            self.problems = error.problems
        return self.settings is not None

    def blocks(self) -> list[Block]:
        """The catalog choices with the fields of what is chosen."""
        return [self.block(path) for path in BLOCKS]

    def block(self, path: str) -> Block:
        """One catalog choice."""
        title = TrainSettings.model_fields[path].title or path
        fields = _all_fields().get(f"{path}={self._chosen(path)}", ())
        own = tuple(p for p in self.problems if p.loc in {(path,), (path, "name")})
        return Block(path, title, self._chosen(path), BLOCKS[path], tuple(self._filled(fields)), own)

    def forget_defaults(self, path: str) -> None:
        """Drop the texts that only stand there as defaults of the row that was chosen before this one."""
        before = self.texts.get(f"{path}.was", "")
        for field in _all_fields().get(f"{path}={before}", ()):
            for control in field.controls:
                if _same(self.texts.get(control.name, ""), control.default):
                    self.texts.pop(control.name, None)

    def fields(self, level: str = "") -> list[FormField]:
        """The settings outside the blocks, of one disclosure level or all."""
        return [f for f in self._filled(_all_fields()[""]) if not level or f.level == level]

    def _filled(self, fields: Iterable[FormField]) -> Iterator[FormField]:
        preset = self.effort.settings(self._updates_per_epoch(self.texts))
        for field in fields:
            controls = tuple(replace(c, value=self.texts.get(c.name, c.default)) for c in field.controls)
            mine = tuple(p for p in self.problems if _belongs(p, field.path))
            hint = f"{as_text(preset.get(field.path)) or '–'} ({self.effort.label})" if field.path in BY_EFFORT else ""
            yield replace(field, controls=controls, problems=mine, placeholder=hint or "automatic")


def sentence(problem: Problem) -> str:
    """A problem's message without the path that it begins with."""
    text = problem.message.removeprefix(".".join(map(str, problem.loc)) + ": ")
    return text[:1].upper() + text[1:]


def label_of(path: str) -> str:
    """The label of the setting (or the catalog choice) at a dotted path; the path itself if there is none."""
    if path in BLOCKS:
        return TrainSettings.model_fields[path].title or path
    fields = (f for group in _all_fields().values() for f in group if path == f.path or path.startswith(f.path + "."))
    return next((f.label for f in fields), path)


def _belongs(problem: Problem, path: str) -> bool:
    loc = ".".join(map(str, problem.loc))
    return loc == path or loc.startswith(path + ".")


def effort_of(settings: Mapping[str, Any], rows: int | None) -> str:
    """The preset whose values ``settings`` holds, or an empty name."""
    per_update = max(1, int(settings.get("batch_size", 4)) * int(settings.get("grad_accumulation_steps", 1)))
    own = {key: settings.get(key) for key in BY_EFFORT if settings.get(key) is not None}
    for effort in EFFORTS.values():
        if own == effort.settings(-(-rows // per_update) if rows else None):
            return effort.name
    return ""


def prefilled(settings: Mapping[str, Any], rows: int | None) -> dict[str, str]:
    """The texts that draw the form with the settings of an earlier job."""
    texts = flatten(settings)
    effort = effort_of(settings, rows)
    if effort:
        texts |= {"effort": effort} | dict.fromkeys(BY_EFFORT, "")
    return texts
