"""What every kind of step can do. A kind decides nothing about other steps; the planner does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.definition import Type
from training.engine.errors import Problem
from training.models import Job


@dataclass(frozen=True, slots=True)
class Port:
    """Something a step works with."""

    type: Type
    required: bool = True
    text: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """One step of one run, about to begin."""

    user: Any
    title: str
    """How what it makes is called."""
    key: str
    """The same for every try to begin this step: a job is made once."""
    settings: Mapping[str, Any]
    """The kind's settings, inputs filled in."""
    inputs: Mapping[str, Any]
    """By port: a ModelVersion, a DatasetVersion, or figures by name."""


@dataclass(frozen=True, slots=True)
class Done:
    """It has ended already, well or not."""

    passed: bool = True
    message: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    """What pages show of it, plain values."""


@dataclass(frozen=True, slots=True)
class Waits:
    """A person has to decide."""

    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Kind(ABC):
    """A kind of step."""

    name: ClassVar[str]
    label: ClassVar[str]
    text: ClassVar[str]
    """A sentence for people."""
    reusable: ClassVar[bool] = False
    """Whether the result of an equal step may stand for it."""
    takes_figures: ClassVar[bool] = False
    """Whether it takes figures of any steps under any names."""

    def settings_schema(self) -> dict[str, Any]:
        """JSON schema of the settings."""
        return {"type": "object"}

    @abstractmethod
    def ports(self, settings: Mapping[str, Any]) -> Mapping[str, Port]:
        """What it works with."""

    def gives(self, settings: Mapping[str, Any]) -> Mapping[str, Type]:
        """What later steps can use."""
        del settings
        return {}

    def problems(self, settings: Mapping[str, Any]) -> list[Problem]:
        """What is wrong with the settings; a number that is filled in later may stand for any."""
        del settings
        return []

    def whole(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with defaults filled in. Raises ConfigError."""
        return dict(settings)

    @abstractmethod
    def begin(self, work: Work) -> Job | Done | Waits:
        """Begin it, in the transaction that moves the step. Raises DomainError: the step has failed."""

    def result(self, job: Job) -> Mapping[str, Any]:
        """Outputs of a job that has succeeded: ids of rows, and figures."""
        del job
        return {}
