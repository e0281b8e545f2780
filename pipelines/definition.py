"""A pipeline as data: what it needs, and its steps. The same shape stands in forms, JSON, YAML and the database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Type = Literal["model", "reward_model", "dataset", "metrics", "number"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Reference = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}\.[a-z][a-z0-9_]{0,39}$")]
After = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}(\.failed)?$")]
#: A setting that a run's input fills in.
FILLED = re.compile(r"\$\{inputs\.([a-z][a-z0-9_]{0,39})\}")
Place = tuple[str | int, ...]
INPUTS = "inputs"
MOST_STEPS, MOST_INPUTS, MOST_USES = 64, 32, 64


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Input(_Strict):
    """What a person chooses for each run."""

    type: Literal["model", "reward_model", "dataset", "number"] = Field(description="What can be chosen.")
    label: str = Field("", max_length=80, description="Its name in forms; the key if empty.")
    help: str = Field("", max_length=400, description="A sentence beside it.")
    formats: list[str] = Field([], max_length=20, description="Of a data set: row formats that fit; empty: any.")
    default: float | None = Field(None, description="Of a number: what it is if nobody says otherwise.")


class Step(_Strict):
    """One step."""

    name: Name = Field(description="Small letters, digits and underscores; other steps name it.")
    kind: str = Field(max_length=40, description="A row of the catalog of step kinds.")
    label: str = Field("", max_length=80, description="Its name on pages; the step's name if empty.")
    uses: dict[Name, Reference] = Field(
        {}, max_length=MOST_USES, description="What it works with: inputs.NAME, or STEP.OUTPUT."
    )
    settings: dict[str, Any] = Field({}, description="The kind's own settings; ${inputs.NAME} takes a number.")
    after: list[After] = Field([], max_length=MOST_STEPS, description="Further steps before it: NAME, or NAME.failed.")
    on_failure: Literal["stop", "go_on"] = Field(
        "stop", description="stop: its failure fails the run. go_on: the run may still succeed."
    )

    @property
    def title(self) -> str:
        return self.label or self.name.replace("_", " ")


class Definition(_Strict):
    """A whole pipeline."""

    schema_: Literal[1] = Field(1, alias="schema")
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
    description: str = Field("", max_length=2000)
    inputs: dict[Name, Input] = Field({}, max_length=MOST_INPUTS)
    steps: list[Step] = Field(min_length=1, max_length=MOST_STEPS)

    def step(self, name: str) -> Step:
        """The step of that name. Raises KeyError."""
        return next(iter(step for step in self.steps if step.name == name), None) or _missing(name)

    def needs(self, step: Step) -> Iterator[tuple[str, Literal["succeeded", "failed"]]]:
        """(step, how it must have ended) for all that ``step`` waits for, each once."""
        found: dict[tuple[str, Literal["succeeded", "failed"]], None] = {}
        for reference in step.uses.values():
            source, _, _ = reference.partition(".")
            if source != INPUTS:
                found[source, "succeeded"] = None
        for name in step.after:
            before, _, wish = name.partition(".")
            found[before, "failed" if wish else "succeeded"] = None
        yield from found

    def plain(self) -> dict[str, Any]:
        """Plain values without what has its default, for YAML and the database."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"schema": 1}


def _missing(name: str) -> Step:
    raise KeyError(name)


def filled(settings: Any, values: dict[str, Any]) -> Any:
    """``settings`` with ``${inputs.NAME}`` replaced by the run's values. Raises KeyError for one that is not there."""
    if isinstance(settings, dict):
        return {key: filled(value, values) for key, value in settings.items()}
    if isinstance(settings, list):
        return [filled(value, values) for value in settings]
    found = FILLED.fullmatch(settings) if isinstance(settings, str) else None
    return values[found.group(1)] if found else settings


def asked(settings: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Where in ``settings`` an input is to be filled in, and its name."""
    if isinstance(settings, dict | list):
        for key, value in settings.items() if isinstance(settings, dict) else enumerate(settings):
            yield from asked(value, (*place, key))
    elif isinstance(settings, str) and (found := FILLED.fullmatch(settings)):
        yield place, found.group(1)
