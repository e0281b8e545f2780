"""News of runs, sent after commit. Receivers only enqueue."""

from __future__ import annotations

from django.db import transaction
from django.dispatch import Signal

from pipelines.models import PipelineRun

#: A run may have something to do. Argument: ``run_id``.
run_changed = Signal()


def announce(run: PipelineRun) -> None:
    """Send the news after commit; a receiver's fault must not undo what was done."""
    pk = run.pk
    transaction.on_commit(lambda: run_changed.send_robust(sender=PipelineRun, run_id=pk))
