"""Pipelines: made from a definition or a template, changed by a new version, thrown away."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Conflict, Invalid, NotFound
from mlxplatform.core.models import AuditEvent
from pipelines import checking, files
from pipelines.catalog import TEMPLATES
from pipelines.definition import Definition
from pipelines.models import Pipeline, PipelineVersion


def parsed(text: str) -> Definition:
    """A definition out of YAML (or JSON, which is YAML). Raises Invalid with all problems."""
    return checked(files.load(text))


def checked(raw: Any) -> Definition:
    """``raw`` as a definition that holds together. Raises Invalid with all problems."""
    definition, problems = checking.read(raw)
    if problems or definition is None:
        raise Invalid.of(problems)
    return definition


def template_yaml(name: str) -> str:
    """The text of a template. Raises NotFound."""
    if name not in TEMPLATES:
        known = ", ".join(TEMPLATES.names)
        raise NotFound("template.unknown", f"There is no template '{name[:40]}'.", f"There are: {known}.")
    return TEMPLATES[name].path.read_text(encoding="utf-8")


def template_definition(name: str) -> Definition:
    """The definition of a template. Raises NotFound."""
    return parsed(template_yaml(name))


def create(user: Any, definition: Definition, template: str = "") -> Pipeline:
    """A new pipeline with its first definition. Raises Forbidden."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        pipeline = Pipeline.objects.create(name=definition.name, template=template, owner=user)
        PipelineVersion.objects.create(pipeline=pipeline, n=1, body=definition.plain())
        AuditEvent.write(user, "pipeline.create", f"pipeline {pipeline.pk}", name=definition.name)
    return pipeline


def from_template(user: Any, name: str) -> Pipeline:
    """The pipeline of a template: the one that was made from it and not changed, or a new one."""
    definition = template_definition(name)
    rows = Pipeline.objects.visible_to(user).filter(template=name, deleted_at=None).order_by("-created_at")
    for pipeline in rows:
        if pipeline.newest.body == definition.plain():
            return pipeline
    return create(user, definition, template=name)


def change(user: Any, pipeline: Pipeline, definition: Definition) -> PipelineVersion:
    """A new version of the definition, unless nothing has changed. Runs keep the one they began with."""
    require(user, Role.EDITOR)
    body = definition.plain()
    try:
        with transaction.atomic():
            newest = pipeline.newest
            if newest.body == body:
                return newest
            n = (pipeline.versions.aggregate(top=Max("n"))["top"] or 0) + 1
            version = PipelineVersion.objects.create(pipeline=pipeline, n=n, body=body)
            Pipeline.objects.filter(pk=pipeline.pk).update(name=definition.name)
            AuditEvent.write(user, "pipeline.change", f"pipeline {pipeline.pk}", n=n)
    except IntegrityError:
        raise Conflict("pipeline.raced", "Somebody else has changed it just now.", "Reload and try again.") from None
    pipeline.refresh_from_db()
    return version


def delete(user: Any, pipeline: Pipeline) -> None:
    """Out of sight; its runs stay. Raises Conflict while one of them has not ended."""
    require(user, Role.EDITOR)
    busy = [run for version in pipeline.versions.all() for run in version.runs.all() if not run.has_ended]
    if busy:
        text = f"Run #{busy[0].number} has not ended."
        raise Conflict("pipeline.busy", text, "Cancel it first.")
    with transaction.atomic():
        Pipeline.objects.filter(pk=pipeline.pk).update(deleted_at=timezone.now())
        AuditEvent.write(user, "pipeline.delete", f"pipeline {pipeline.pk}")
