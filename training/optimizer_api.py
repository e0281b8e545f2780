"""Optimizers and schedules over the API: listed, explained, previewed, and saved under a name."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from mlxplatform.core.access import Role, require
from mlxplatform.core.paging import page
from training import rates, services
from training.engine.catalog.optimizer_memory import state_bytes
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.rows import Row
from training.engine.catalog.schedules import SCHEDULES
from training.engine.config.training import TrainSettings, check
from training.models import OptimizerPreset
from training.schemas import Strict
from training.train_api import Described, only

optimizers = Router(tags=["optimizers"])
schedules = Router(tags=["optimizers"])
presets = Router(tags=["optimizers"])
MOST_POINTS = 2000

PRESET = only("PresetSettings", "What a preset holds.", OptimizerPreset.KEYS)


class CatalogRow(Schema):
    """A row of a catalog: ``about`` says what it is and where it comes from, ``settings`` is its JSON schema."""

    name: str
    label: str
    summary: str
    about: str
    settings: dict[str, Any]


class OptimizerOut(CatalogRow):
    """An optimizer. ``bytes_per_weight``: what it keeps for a trained weight with its defaults."""

    bytes_per_weight: float


class PreviewIn(Strict):
    """A schedule to draw."""

    lr_schedule: dict[str, Any] | str = Field(
        description="As in a training's settings: a name, or an object with it and its settings (see /schedules)."
    )
    total: int = Field(ge=1, le=10**7, description="Optimizer updates of the whole training.")
    learning_rate: float = Field(1e-4, gt=0, le=1)
    points: int = Field(240, ge=2, le=MOST_POINTS, description="About so many points, first and last among them.")


class PreviewOut(Schema):
    """The curve: at update ``step`` the schedule multiplies the rate by ``multiplier``."""

    total: int
    step: list[int]
    multiplier: list[float]
    learning_rate: list[float]


class PresetIn(Strict):
    """A preset to save. What is left out of ``settings`` has its default."""

    name: str
    settings: Annotated[dict[str, Any], Described(PRESET)] = {}


class PresetPatch(Strict):
    """What may be changed; ``settings`` replace the old ones as a whole."""

    name: str | None = None
    settings: Annotated[dict[str, Any], Described(PRESET)] | None = None


class PresetOut(Schema):
    """A preset with all its settings."""

    id: UUID
    name: str
    owner: str | None
    settings: dict[str, Any]
    created_at: datetime
    changed_at: datetime

    @staticmethod
    def resolve_owner(row: Any) -> str | None:
        return row.owner.username if row.owner else None


class PresetPage(Schema):
    """Presets, and the cursor of the next page."""

    items: list[PresetOut]
    next: str | None


def about(row: Row) -> str:
    """What a row is and where it comes from, in one paragraph."""
    return " ".join((row.settings.__doc__ or "").replace("``", "").split())


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "label": row.label,
        "summary": row.summary,
        "about": about(row),
        "settings": row.settings.model_json_schema(),
    }


@optimizers.get("", response=list[OptimizerOut], operation_id="list_optimizers")
def list_optimizers(request: HttpRequest) -> Any:
    """Every optimizer: what it is for, what it keeps for each weight, where it comes from, its settings."""
    return [{**_row(row), "bytes_per_weight": state_bytes(row.settings(name=row.name))} for row in OPTIMIZERS]


@schedules.get("", response=list[CatalogRow], operation_id="list_schedules")
def list_schedules(request: HttpRequest) -> Any:
    """Every schedule of the learning rate with its settings."""
    return [_row(row) for row in SCHEDULES]


@schedules.post("/preview", response=PreviewOut, operation_id="preview_schedule")
def preview_schedule(request: HttpRequest, body: PreviewIn) -> Any:
    """The learning rate over the updates of a training, as the engine will follow it."""
    settings = check(TrainSettings, {"lr_schedule": body.lr_schedule, "learning_rate": body.learning_rate})
    made = rates.curve(settings, body.total, body.points)
    return {"total": made.total, "step": made.steps, "multiplier": made.multipliers, "learning_rate": made.rates}


@presets.get("", response=PresetPage, operation_id="list_optimizer_presets")
def list_presets(request: HttpRequest, cursor: str = "", limit: int = 50) -> Any:
    """Presets by name."""
    rows = OptimizerPreset.objects.visible_to(request.user).select_related("owner")
    return page(rows, "name", cursor, max(1, min(limit, 200)))


@presets.post("", response={201: PresetOut}, operation_id="create_optimizer_preset")
def create_preset(request: HttpRequest, body: PresetIn) -> Any:
    """Save an optimizer, a schedule, a rate and parameter groups under a name."""
    return Status(201, services.create_preset(request.user, body.name, body.settings))


@presets.get("/{uuid:preset_id}", response=PresetOut, operation_id="get_optimizer_preset")
def get_preset(request: HttpRequest, preset_id: UUID) -> Any:
    """One preset."""
    return services.find_preset(request.user, preset_id)


@presets.patch("/{uuid:preset_id}", response=PresetOut, operation_id="change_optimizer_preset")
def change_preset(request: HttpRequest, preset_id: UUID, body: PresetPatch) -> Any:
    """Change name or settings; jobs that were made with it keep theirs."""
    require(request.user, Role.EDITOR)
    preset = services.find_preset(request.user, preset_id)
    return services.change_preset(request.user, preset, **body.model_dump(exclude_none=True))


@presets.delete("/{uuid:preset_id}", response={204: None}, operation_id="delete_optimizer_preset")
def delete_preset(request: HttpRequest, preset_id: UUID) -> Any:
    """Delete it; the audit trail keeps its settings."""
    require(request.user, Role.EDITOR)
    services.delete_preset(request.user, services.find_preset(request.user, preset_id))
    return Status(204, None)
