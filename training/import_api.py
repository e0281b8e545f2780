"""The import of a model over the API: a job, whose result the registry shows under ``/models``."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Status

from training import services
from training.schemas import JobOut, Key, ModelImportIn

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
