"""Pipelines to make in tests, and what the worker would do with their runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pipelines import services
from tests.training.runs import make_job
from training.landing import land
from training.models import DatasetVersion, Job
from training.states import JobState

#: Measured, judged, approved: a step with a job, one that decides by itself, one that waits.
MEASURED: dict[str, Any] = {
    "schema": 1,
    "name": "Measured",
    "inputs": {
        "model": {"type": "model", "label": "Model"},
        "data": {"type": "dataset", "formats": ["chat", "completion"]},
        "rows": {"type": "number", "default": 4.0},
    },
    "steps": [
        {
            "name": "measure",
            "kind": "evaluate",
            "label": "Measure it",
            "uses": {"model": "inputs.model", "data": "inputs.data"},
            "settings": {"rows": "${inputs.rows}"},
        },
        {
            "name": "gate",
            "kind": "gate",
            "uses": {"metrics": "measure.metrics"},
            "settings": {"condition": "loss < 2"},
        },
        {
            "name": "approve",
            "kind": "approve",
            "uses": {"model": "inputs.model", "metrics": "measure.metrics"},
            "after": ["gate"],
        },
    ],
}
#: Ends by itself, without inputs and jobs.
ALONE: dict[str, Any] = {
    "schema": 1,
    "name": "Alone",
    "steps": [{"name": "gate", "kind": "gate", "settings": {"condition": "1 < 2"}}],
}


def make_inputs() -> dict[str, str]:
    """A model and a data set for :data:`MEASURED`."""
    job = make_job()
    DatasetVersion.objects.filter(pk=job.dataset_version_id).update(rows_valid=5)
    Job.objects.filter(pk=job.pk).delete()
    return {"model": str(job.model_version_id), "data": str(job.dataset_version_id)}


def measured(run_id: UUID | str, loss: float) -> None:
    """End the evaluation of a run as the worker would, and do what comes next."""
    run_id = UUID(str(run_id))
    job = Job.objects.get(pk__in=Job.objects.filter(kind="evaluate", state=JobState.QUEUED))
    Job.objects.filter(pk=job.pk).update(state=JobState.SUCCEEDED, result=land(job, {"values": {"loss": loss}}))
    services.advance(run_id)
