"""The engine's catalog over the API: everything that can be asked for, with the JSON schema of its settings."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router

from training.engine.catalog.adapters import ADAPTERS
from training.engine.catalog.formats import FORMATS
from training.engine.catalog.kinds import KINDS
from training.engine.catalog.methods import METHODS
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.rows import Catalog
from training.engine.catalog.rules import RULES
from training.engine.catalog.schedules import SCHEDULES
from training.engine.config.training import TrainSettings

router = Router(tags=["catalog"])


@router.get("", operation_id="get_catalog")
def get_catalog(request: HttpRequest) -> dict[str, Any]:
    """Methods, optimizers, schedules, adapters, rules, data formats and kinds of jobs.

    ``settings`` is the JSON schema of a training's whole settings; each row has that of its own block.
    """
    return {
        "settings": TrainSettings.model_json_schema(),
        "methods": _rows(METHODS),
        "optimizers": _rows(OPTIMIZERS),
        "schedules": _rows(SCHEDULES),
        "adapters": _rows(ADAPTERS),
        "rules": _rows(RULES),
        "formats": [
            {"name": row.name, "label": row.label, "family": row.family, "example": row.example} for row in FORMATS
        ],
        "kinds": [
            {"name": kind.name, "label": kind.label, "resource": kind.resource, "resumable": kind.resumable,
             "config": kind.config.model_json_schema()}
            for kind in KINDS.values()
        ],
    }  # fmt: skip


def _rows(catalog: Catalog) -> list[dict[str, Any]]:
    return [
        {"name": row.name, "label": row.label, "summary": row.summary, "settings": row.settings.model_json_schema()}
        for row in catalog
    ]
