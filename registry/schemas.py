"""What the API of the registry gives and takes."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ninja import Schema
from pydantic import ConfigDict, Field


class VersionOut(Schema):
    """One immutable version of a model; ``files`` are named with their sha256."""

    id: UUID
    model_id: UUID
    n: int
    kind: str
    base_id: UUID | None
    model_type: str
    parameters: int
    quantization: dict[str, Any] | None
    context_length: int
    bytes: int
    license: str
    heads: list[str]
    job_id: UUID | None
    created_at: datetime


class VersionFull(VersionOut):
    """A version with where it came from, its figures and its files."""

    source: dict[str, Any]
    metrics: dict[str, Any]
    files: dict[str, str]


class VersionPage(Schema):
    items: list[VersionOut]
    next: str | None


class ModelRow(Schema):
    """A model with its newest version."""

    id: UUID
    name: str
    created_at: datetime
    newest: VersionOut | None


class ModelPage(Schema):
    items: list[ModelRow]
    next: str | None


class ModelOut(ModelRow):
    """A model with its description and where its aliases point (version numbers)."""

    description: str
    aliases: dict[str, int]

    @staticmethod
    def resolve_aliases(row: Any) -> dict[str, int]:
        return dict(row.aliases.values_list("name", "version__n"))


class AliasIn(Schema):
    """Where an alias shall point: the number of a version."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1)


class AliasOut(Schema):
    """Where an alias points."""

    name: str
    version: int
    version_id: UUID
    moved_at: datetime

    @staticmethod
    def resolve_version(row: Any) -> int:
        return int(row.version.n)


class MoveOut(Schema):
    """One move of an alias, between version numbers; None is nowhere."""

    id: int
    at: datetime
    actor: str
    alias: str
    before: int | None
    after: int | None


class MovePage(Schema):
    items: list[MoveOut]
    next: str | None
