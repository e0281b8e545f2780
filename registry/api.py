"""Models over the API: look at them, point aliases. Their import is a job, in the training room."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Status

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import NotFound
from mlxplatform.core.paging import page
from registry import aliases
from registry.models import Alias, ModelVersion, RegisteredModel
from registry.schemas import AliasIn, AliasOut, ModelOut, ModelPage, MovePage, VersionFull, VersionPage

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


@router.put("/{uuid:model_id}/aliases/{name}", response=AliasOut, operation_id="set_alias")
def set_alias(request: HttpRequest, model_id: UUID, name: str, body: AliasIn) -> Any:
    """Point an alias at a version of the model, wherever it pointed before."""
    require(request.user, Role.EDITOR)
    model = model_of(request, model_id)
    version = model.versions.filter(n=body.version).first()
    if version is None:
        raise NotFound("model.unknown", f"{model} has no version {body.version}.", "See the list of its versions.")
    return aliases.set_alias(request.user, version, name)


@router.delete("/{uuid:model_id}/aliases/{name}", response={204: None}, operation_id="remove_alias")
def remove_alias(request: HttpRequest, model_id: UUID, name: str) -> Any:
    """Take an alias away."""
    require(request.user, Role.EDITOR)
    row = Alias.objects.filter(model=model_of(request, model_id), name=name).select_related("version").first()
    if row is None:
        raise NotFound("alias.unknown", f"The model has no alias '{name[:40]}'.", "See the model.")
    aliases.remove_alias(request.user, row)
    return Status(204, None)


@router.get("/{uuid:model_id}/alias-moves", response=MovePage, operation_id="list_alias_moves")
def list_alias_moves(
    request: HttpRequest, model_id: UUID, alias: str = "", cursor: str = "", limit: int = Query(50, ge=1, le=200)
) -> Any:
    """Every move of the model's aliases, or of one, the newest first."""
    found = page(aliases.rows(model_of(request, model_id), alias), "-pk", cursor, limit)
    return {**found, "items": [aliases.as_move(row) for row in found["items"]]}
