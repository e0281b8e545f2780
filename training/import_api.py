"""New models over the API, imported or made out of others: jobs, whose results the registry shows under ``/models``."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Status

from training import services
from training.schemas import JobOut, Key, ModelImportIn, StudentIn

router = Router(tags=["models"])


@router.post("/import", response={201: JobOut}, operation_id="import_model")
def import_model(request: HttpRequest, body: ModelImportIn, idempotency_key: str = Key) -> Any:
    """Queue the import of a model; the job's result names the new version."""
    job = services.create_model_import(
        request.user,
        body.source,
        body.name,
        base_version_id=body.base_version_id,
        idempotency_key=idempotency_key,
    )
    return Status(201, job)


@router.post("/versions/{uuid:version_id}/student", response={201: JobOut}, operation_id="make_student")
def make_student(request: HttpRequest, version_id: UUID, body: StudentIn, idempotency_key: str = Key) -> Any:
    """Queue the making of a smaller model out of some of the version's layers, to be distilled from it."""
    job = services.create_student(request.user, version_id, body.layers, body.name, idempotency_key=idempotency_key)
    return Status(201, job)
