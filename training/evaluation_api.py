"""Evaluations over the API: ask for one, and look at what they found."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status
from pydantic import Field

from mlxplatform.core.errors import NotFound
from mlxplatform.core.paging import page
from training import services
from training.models import Evaluation
from training.schemas import JobOut, Key, Strict

router = Router(tags=["evaluations"])


class EvaluationIn(Strict):
    """An evaluation to start, of ``model_version_id`` or of ``checkpoint_id``.

    ``settings``: the kind ``evaluate`` in ``/api/v1/catalog``; what is left out has its default.
    """

    dataset_version_id: UUID
    model_version_id: UUID | None = None
    checkpoint_id: UUID | None = None
    settings: dict[str, Any] = {}
    reward_version_id: UUID | None = Field(None, description="A reward model that scores the answers.")
    baseline_version_id: UUID | None = Field(None, description="A model whose answers the reward model compares.")
    name: str = ""
    priority: int = 0


class EvaluationOut(Schema):
    """What an evaluation found. Those of equal data and ``settings_hash`` may be compared."""

    id: UUID
    job_id: UUID
    model_version_id: UUID | None
    checkpoint_id: UUID | None
    dataset_version_id: UUID
    settings: dict[str, Any]
    settings_hash: str
    values: dict[str, float]
    answered: int
    created_at: datetime


class EvaluationPage(Schema):
    """Evaluations, and the cursor of the next page."""

    items: list[EvaluationOut]
    next: str | None


@router.post("", response={201: JobOut}, operation_id="create_evaluation")
def create_evaluation(request: HttpRequest, body: EvaluationIn, idempotency_key: str = Key) -> Any:
    """Queue an evaluation; its job's result and ``GET /evaluations`` have the figures when it has succeeded."""
    return Status(201, services.create_evaluation(request.user, **body.model_dump(), idempotency_key=idempotency_key))


@router.get("", response=EvaluationPage, operation_id="list_evaluations")
def list_evaluations(
    request: HttpRequest,
    model_version_id: UUID | None = None,
    checkpoint_id: UUID | None = None,
    dataset_version_id: UUID | None = None,
    cursor: str = "",
    limit: int = Query(50, ge=1, le=200),
) -> Any:
    """Finished evaluations, the newest first; only of this version, this checkpoint, on this data set version."""
    asked = {
        "model_version": model_version_id,
        "checkpoint": checkpoint_id,
        "dataset_version": dataset_version_id,
    }
    rows = Evaluation.objects.visible_to(request.user).filter(job__deleted_at=None)
    rows = rows.filter(**{name: value for name, value in asked.items() if value is not None})
    return page(rows, "-created_at", cursor, limit)


@router.get("/{uuid:evaluation_id}", response=EvaluationOut, operation_id="get_evaluation")
def get_evaluation(request: HttpRequest, evaluation_id: UUID) -> Any:
    """One evaluation."""
    row = Evaluation.objects.visible_to(request.user).filter(pk=evaluation_id).first()
    if row is None:
        raise NotFound("evaluation.unknown", "There is no such evaluation.", "See /api/v1/evaluations.")
    return row
