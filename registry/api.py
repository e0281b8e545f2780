"""Models over the API: look at them. Their import is a job, in the training room."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router

from mlxplatform.core.errors import NotFound
from mlxplatform.core.paging import page
from registry.models import ModelVersion, RegisteredModel
from registry.schemas import ModelOut, ModelPage, VersionFull, VersionPage

router = Router(tags=["models"])


def model_of(request: HttpRequest, model_id: UUID) -> RegisteredModel:
    """The model, if the caller may see it. Raises NotFound."""
    row: RegisteredModel | None = RegisteredModel.objects.visible_to(request.user).filter(pk=model_id).first()
    if row is None:
        raise NotFound("model.unknown", "There is no such model.", "See /api/v1/models.")
    return row


@router.get("", response=ModelPage, operation_id="list_models")
def list_models(request: HttpRequest, cursor: str = "", limit: int = Query(50, ge=1, le=200)) -> Any:
    """Models by name."""
    return page(RegisteredModel.objects.visible_to(request.user).filter(deleted_at=None), "name", cursor, limit)


@router.get("/{uuid:model_id}", response=ModelOut, operation_id="get_model")
def get_model(request: HttpRequest, model_id: UUID) -> Any:
    """One model."""
    return model_of(request, model_id)


@router.get("/{uuid:model_id}/versions", response=VersionPage, operation_id="list_versions")
def list_versions(request: HttpRequest, model_id: UUID, cursor: str = "", limit: int = Query(50, ge=1, le=200)) -> Any:
    """A model's versions, the newest first."""
    return page(ModelVersion.objects.filter(model=model_of(request, model_id)), "-n", cursor, limit)


@router.get("/versions/{uuid:version_id}", response=VersionFull, operation_id="get_version")
def get_version(request: HttpRequest, version_id: UUID) -> Any:
    """One version with its files and their hashes."""
    row = ModelVersion.objects.visible_to(request.user).filter(pk=version_id).first()
    if row is None:
        raise NotFound("model.unknown", "There is no such version of a model.", "See /api/v1/models.")
    return row
