"""Data sets over the API: upload, validate, import, look at."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.core.files.uploadedfile import UploadedFile as DjangoFile
from django.http import HttpRequest
from ninja import File, Query, Router, Status
from ninja.files import UploadedFile

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid, NotFound
from mlxplatform.core.paging import page
from registry.models import ModelVersion
from training import asks, services, uploads
from training.engine.config.training import check
from training.engine.errors import Problem
from training.models import Dataset, DatasetVersion
from training.schemas import (
    DatasetImportIn,
    DatasetOut,
    DatasetPage,
    GenerateIn,
    JobOut,
    Key,
    TokensIn,
    UploadOut,
    ValidateIn,
)

router = Router(tags=["datasets"])


@router.get("", response=DatasetPage, operation_id="list_datasets")
def list_datasets(request: HttpRequest, cursor: str = "", limit: int = Query(50, ge=1, le=200)) -> Any:
    """Data sets, the newest first."""
    return page(Dataset.objects.visible_to(request.user).filter(deleted_at=None), "-created_at", cursor, limit)


@router.post("/upload", response={201: UploadOut}, operation_id="upload_file")
def upload_file(request: HttpRequest, file: File[UploadedFile]) -> Any:
    """Keep a file (``multipart/form-data``); its id goes into an import's source."""
    upload_id = services.save_upload(request.user, file)
    path = uploads.find(upload_id)
    return Status(201, {"id": upload_id, "name": path.name, "bytes": path.stat().st_size})


VALIDATE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ValidateIn.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}, "data_format": {"type": "string"}},
                }
            },
        },
    }
}


@router.post("/validate", operation_id="validate_data", openapi_extra=VALIDATE_BODY)
def validate_data(request: HttpRequest) -> dict[str, Any]:
    """Judge every row of a file: its format, and each problem with its line.

    Takes the file itself (``multipart/form-data``, field ``file``), which is kept as an upload, or JSON
    with the id of an upload. ``upload`` in the answer is the id to import it by.
    """
    require(request.user, Role.EDITOR)
    if request.content_type == "multipart/form-data":
        file = request.FILES.get("file")
        if not isinstance(file, DjangoFile):
            raise Invalid.of(
                [Problem(("file",), "config.missing", "There is no file.", "Send it in the field 'file'.")]
            )
        body = ValidateIn(
            max_problems=20,
            upload=UUID(services.save_upload(request.user, file)),
            data_format=request.POST.get("data_format", "")[:40],
        )
    elif request.content_type == "application/json":
        body = check(ValidateIn, _json(request.body))
    else:
        raise Invalid("body.content_type", "The body is neither JSON nor a form with a file.", "Send one of the two.")
    report = asks.validate(uploads.find(body.upload), data_format=body.data_format, max_problems=body.max_problems)
    return {**report, "upload": str(body.upload)}


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Invalid("body.not_json", "The body is no valid JSON.", "Mend the body.") from None


@router.post("/import", response={201: JobOut}, operation_id="import_dataset")
def import_dataset(request: HttpRequest, body: DatasetImportIn, idempotency_key: str = Key) -> Any:
    """Queue the import of a data set; the job's result names the new version."""
    options = body.model_dump(exclude={"source", "name"})
    job = services.create_dataset_import(request.user, body.source, body.name, options, idempotency_key=idempotency_key)
    return Status(201, job)


@router.post("/generate", response={201: JobOut}, operation_id="generate_dataset")
def generate_dataset(request: HttpRequest, body: GenerateIn, idempotency_key: str = Key) -> Any:
    """Queue a data set of chats in which a model answers the questions of another data set."""
    job = services.create_generated_dataset(
        request.user,
        body.model_version_id,
        body.dataset_version_id,
        body.draw.model_dump(),
        body.name,
        idempotency_key=idempotency_key,
    )
    return Status(201, job)


@router.get("/{uuid:dataset_id}", response=DatasetOut, operation_id="get_dataset")
def get_dataset(request: HttpRequest, dataset_id: UUID) -> Any:
    """One data set with its versions."""
    row = Dataset.objects.visible_to(request.user).filter(pk=dataset_id).first()
    if row is None:
        raise NotFound("dataset.unknown", "There is no such data set.", "See /api/v1/datasets.")
    return row


@router.post("/{uuid:version_id}/tokens", operation_id="show_tokens")
def show_tokens(request: HttpRequest, version_id: UUID, body: TokensIn) -> dict[str, Any]:
    """Rows of a data set *version*, token by token: which ones the loss counts."""
    data = DatasetVersion.objects.visible_to(request.user).filter(pk=version_id).first()
    if data is None:
        raise NotFound("dataset.unknown", "There is no such version of a data set.", "See /api/v1/datasets.")
    model = ModelVersion.objects.visible_to(request.user).filter(pk=body.model_version_id).first()
    if model is None:
        raise NotFound("model.unknown", "There is no such model.", "See /api/v1/models.")
    return asks.tokens(data, model, **body.model_dump(exclude={"model_version_id"}))
