"""What follows from news: only a message to the worker, which finds the row by itself anyway."""

from __future__ import annotations

from typing import Any

from training.signals import job_queued
from training.tasks import wake


def connect() -> None:
    """Ring the worker's bell whenever a job begins to wait."""
    job_queued.connect(_on_queued, dispatch_uid="training.wake")


def _on_queued(**_: Any) -> None:
    wake()
