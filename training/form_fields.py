"""The inputs of a settings form, made by walking pydantic schemas: the engine's settings and catalog rows.

No field is written by hand: a new setting or catalog row appears by itself, with its words, unit, limits,
example and disclosure level. The browser posts text under dotted names (``optimizer.betas.0``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from training.engine.catalog.adapters import ADAPTERS
from training.engine.catalog.methods import METHODS
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.rows import Catalog, Row
from training.engine.catalog.schedules import SCHEDULES
from training.engine.config.training import TrainSettings
from training.engine.errors import Problem

#: Settings that are one row of a catalog; each is drawn as a choice that brings its own fields.
BLOCKS: dict[str, Catalog] = {
    "method": METHODS,
    "adapter": ADAPTERS,
    "optimizer": OPTIMIZERS,
    "lr_schedule": SCHEDULES,
}
#: Settings that "how thorough" decides unless a person does.
BY_EFFORT = ("epochs", "iters", "patience")


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
    example: str = ""

    @property
    def id(self) -> str:
        """The element's id: problems link to it."""
        return "f-" + self.name.replace(".", "-")

    @property
    def is_on(self) -> bool:
        """Whether a flag is set."""
        return self.value in {"on", "true", "True", "1"}

    @property
    def may_be_emptied(self) -> bool:
        """Whether nothing in it means an empty list, not the default."""
        return self.kind == "lines" and self.default != ""

    def takes(self, text: str) -> bool:
        """Whether the control can show ``text``: a choice has it among its words, a number lies within the limits."""
        if self.kind == "choice":
            return text in dict(self.choices)
        if self.kind != "number":
            return True
        try:
            number = float(text)
        except ValueError:
            return False
        return (self.low is None or number >= self.low) and (self.high is None or number <= self.high)


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
        return any(not same(control.value, control.default) for control in self.controls)

    @property
    def sentences(self) -> list[str]:
        """What is wrong with it, for beside the control, which names it already."""
        return [f"{self._line(problem)}{sentence(problem)} {problem.hint}".strip() for problem in self.problems]

    def _line(self, problem: Problem) -> str:
        """Which line of a box a problem is about, for before its sentence."""
        rest = problem.loc[len(self.path.split(".")) :]
        if self.controls[0].kind != "lines" or not rest:
            return ""
        every = enumerate(self.controls[0].value.split("\n"), 1)
        lines = [(n, line.strip()) for n, line in every if line.strip()]
        if isinstance(rest[0], int):
            lines = lines[rest[0] : rest[0] + 1]
        else:
            lines = [(n, line) for n, line in lines if line.partition("=")[0].strip() == rest[0]]
        return f"Line {lines[0][0]}, {lines[0][1][:60]}: " if lines else ""

    @property
    def example(self) -> str:
        """A line that could stand in the box."""
        return self.controls[0].example

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
    kept: tuple[tuple[str, str], ...] = ()
    """Names and texts of what was typed for rows that were chosen before; hidden inputs carry them along."""

    @property
    def row(self) -> Row | None:
        """The chosen row, if there is such a one."""
        return next((row for row in self.catalog if row.name == self.chosen), None)

    @property
    def simple(self) -> list[FormField]:
        """The fields that are always in sight."""
        return [f for f in self.fields if f.level == "simple"]

    @property
    def further(self) -> list[FormField]:
        """The fields that unfold."""
        return [f for f in self.fields if f.level != "simple"]

    @property
    def summary(self) -> str:
        """What the chosen row is."""
        return self.row.summary if self.row else ""

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
        return Control(name, "lines", text, value=text, example=str((schema.get("examples") or [""])[0]))
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
def all_fields() -> dict[str, tuple[FormField, ...]]:
    """Every field there is, by block and row; the settings outside the blocks under the empty name."""
    table = {"": tuple(fields_of(TrainSettings))}
    for path, catalog in BLOCKS.items():
        for row in catalog:
            table[f"{path}={row.name}"] = tuple(fields_of(row.settings, f"{path}."))
    return table


@lru_cache(maxsize=1)
def _pairs() -> frozenset[str]:
    return frozenset(f.path for fields in all_fields().values() for f in fields if len(f.controls) > 1)


def same(left: str, right: str) -> bool:
    """Whether two texts are the same value."""
    if left == right:
        return True
    try:
        return float(left) == float(right)
    except ValueError:
        return left.split() == right.split() and "\n" in left + right


def sentence(problem: Problem) -> str:
    """A problem's message without the path that it begins with."""
    text = problem.message.removeprefix(".".join(map(str, problem.loc)) + ": ")
    return text[:1].upper() + text[1:]


def label_of(path: str) -> str:
    """The label of the setting (or the catalog choice) at a dotted path; the path itself if there is none."""
    if path in BLOCKS:
        return TrainSettings.model_fields[path].title or path
    fields = (f for group in all_fields().values() for f in group if path == f.path or path.startswith(f.path + "."))
    return next((f.label for f in fields), path)


def belongs(problem: Problem, path: str) -> bool:
    """Whether a problem is one of the setting at ``path``."""
    loc = ".".join(map(str, problem.loc))
    return loc == path or loc.startswith(path + ".")
