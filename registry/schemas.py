"""What the API of the registry gives and takes."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ninja import Schema


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
