"""Rows for pages: only what the person may see, else 404."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from mlxplatform.core.errors import NotFound
from pipelines.models import Pipeline, PipelineRun, StepRun


def visible_pipeline(user: Any, pipeline_id: UUID) -> Pipeline:
    """The pipeline, if it is there and theirs to see."""
    row = Pipeline.objects.visible_to(user).filter(pk=pipeline_id, deleted_at=None).first()
    if row is None:
        raise NotFound("pipeline.unknown", "There is no such pipeline.", "Look for it in the list of pipelines.")
    return row


def visible_run(user: Any, run_id: UUID) -> PipelineRun:
    """The run; those of deleted pipelines can still be looked at."""
    rows = PipelineRun.objects.visible_to(user).select_related("version__pipeline", "owner")
    row = rows.filter(pk=run_id).first()
    if row is None:
        raise NotFound("run.unknown", "There is no such run.", "Look for it in the list of runs.")
    return row


def visible_step(user: Any, run_id: UUID, name: str) -> StepRun:
    """A step of a run."""
    row = visible_run(user, run_id).steps.filter(name=name).select_related("run", "job").first()
    if row is None:
        raise NotFound("step.unknown", f"The run has no step '{name[:40]}'.", "Choose one of its steps.")
    return row
