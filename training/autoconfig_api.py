"""Auto-configuration over the API."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Schema
from pydantic import Field

from training import services
from training.schemas import Strict

router = Router(tags=["jobs"])


class AutoConfigIn(Strict):
    """Model and data; the rest is proposed."""

    model_version_id: UUID
    dataset_version_id: UUID
    method: str | None = Field(None, max_length=40, description="Without one the data's format decides.")
    others: dict[str, UUID] = Field({}, description="Further model versions by role: teacher, reward_model.")
    measure: bool = Field(False, description="Compute one update for real, which may take a minute or two.")


class ReasonOut(Schema):
    """One proposed setting."""

    setting: str = Field(description="Dotted, as in the form: adapter.rank. A block's bare name stands for its row.")
    value: Any
    why: str


class AutoConfigOut(Schema):
    """A proposal. ``settings`` go into ``POST /jobs`` as they are."""

    method: str
    model_version_id: UUID = Field(description="The one asked about, or a quantised one of it where only that fits.")
    settings: dict[str, Any]
    reasons: list[ReasonOut]
    steps: list[str] = Field(description="What was given up so that it fits, in order.")
    warnings: list[str]
    fits: bool | None = Field(description="null: not known.")
    memory: dict[str, Any] | None = Field(description="As POST /jobs/memory answers.")


@router.post("", response=AutoConfigOut, operation_id="auto_config")
def auto_config(request: HttpRequest, body: AutoConfigIn) -> Any:
    """Propose method settings, batch, rank, rate, steps and precision, say why, and whether it fits.

    What does not fit is made smaller step by step. If nothing helps, ``fits`` is false, and starting it is refused
    for ten minutes (``memory.does_not_fit``) unless ``force_memory`` is given.
    """
    return services.configure(request.user, **body.model_dump()).as_dict()
