"""What follows from news: only a message to the worker, which finds the rows by itself anyway."""

from __future__ import annotations

from typing import Any

from pipelines.models import StepRun
from pipelines.signals import run_changed
from pipelines.tasks import advance_run
from training.signals import job_finished, job_queued


def connect() -> None:
    """Look at a run when it changes, and when a job of one of its steps ends or begins anew."""
    run_changed.connect(_on_run, dispatch_uid="pipelines.run")
    job_finished.connect(_on_job, dispatch_uid="pipelines.job_finished")
    job_queued.connect(_on_job, dispatch_uid="pipelines.job_queued")


def _on_run(*, run_id: Any, **_: Any) -> None:
    advance_run(str(run_id))


def _on_job(*, job_id: Any, **_: Any) -> None:
    for run_id in StepRun.objects.filter(job_id=job_id).values_list("run_id", flat=True):
        advance_run(str(run_id))
