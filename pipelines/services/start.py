"""A new run: choices checked, rows made, the first steps begun by whoever comes first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Conflict, Invalid
from mlxplatform.core.models import AuditEvent
from pipelines import preflight
from pipelines.models import Pipeline, PipelineRun, StepRun
from pipelines.signals import announce


def start(user: Any, pipeline: Pipeline, inputs: Mapping[str, Any], idempotency_key: str = "") -> PipelineRun:
    """Start a run of the pipeline's newest definition. A doubled ``idempotency_key`` returns the first one.

    ``inputs``: ids of versions and numbers, by input. Raises Invalid with all problems, Forbidden.
    """
    require(user, Role.EDITOR)
    if len(idempotency_key) > 120:
        raise Invalid("idempotency.too_long", "The idempotency key has more than 120 characters.", "Use a UUID.")
    if made := _made(user, idempotency_key):
        return made
    if pipeline.deleted_at is not None:
        raise Conflict("pipeline.deleted", "The pipeline is in the trash.", "Restore it, or make a new one.")
    version = pipeline.newest
    definition = version.definition
    rows, problems = preflight.chosen(user, definition, inputs)
    problems = problems or list(preflight.problems(definition, rows))
    if problems:
        raise Invalid.of(problems)
    plain = {name: row if isinstance(row, int | float) else str(row.pk) for name, row in rows.items()}
    for last in (False, False, True):
        try:
            with transaction.atomic():
                number = (PipelineRun.objects.aggregate(top=Max("number"))["top"] or 0) + 1
                run = PipelineRun.objects.create(
                    number=number, version=version, owner=user, inputs=plain, idempotency_key=idempotency_key
                )
                StepRun.objects.bulk_create(
                    StepRun(run=run, place=place, name=step.name, kind=step.kind)
                    for place, step in enumerate(definition.steps)
                )
                run.record_move("", run.state)
                AuditEvent.write(user, "pipeline.run", f"pipeline run {run.pk}", number=number)
                announce(run)
            return run
        except IntegrityError:
            if made := _made(user, idempotency_key):
                return made
            if last:
                raise
    raise AssertionError("the loop returns or raises")


def _made(user: Any, key: str) -> PipelineRun | None:
    return PipelineRun.objects.filter(owner=user, idempotency_key=key).first() if key else None
