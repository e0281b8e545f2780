"""Pipelines over the API: definitions, runs and what people decide about them, templates."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router, Status

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid, NotFound
from mlxplatform.core.paging import page
from pipelines import checking, files, json_schema, preflight, schemas, services
from pipelines.catalog import TEMPLATES, Template
from pipelines.definition import Definition
from pipelines.models import Pipeline, PipelineRun, PipelineVersion, StepRun
from pipelines.schemas import Key
from pipelines.states import RunState
from training.engine.errors import Problem

pipelines = Router(tags=["pipelines"])
runs = Router(tags=["pipelines"])
templates = Router(tags=["pipelines"])
MOST_EVENTS = 1000
YAML = "application/yaml; charset=utf-8"


def pipeline_of(request: HttpRequest, pipeline_id: UUID) -> Pipeline:
    """The pipeline, if the caller may see it. Raises NotFound."""
    rows = Pipeline.objects.visible_to(request.user).filter(pk=pipeline_id, deleted_at=None)
    row: Pipeline | None = rows.select_related("owner").first()
    if row is None:
        raise NotFound("pipeline.unknown", "There is no such pipeline.", "See /api/v1/pipelines.")
    return row


def run_of(request: HttpRequest, run_id: UUID) -> PipelineRun:
    """The run with its steps, if the caller may see it. Raises NotFound."""
    rows = PipelineRun.objects.visible_to(request.user).filter(pk=run_id).select_related("version__pipeline", "owner")
    row: PipelineRun | None = rows.prefetch_related(
        "steps__job", "steps__reused__run", "steps__approvals__user"
    ).first()
    if row is None:
        raise NotFound("run.unknown", "There is no such run.", "See /api/v1/pipeline-runs.")
    return row


def step_of(request: HttpRequest, run_id: UUID, name: str) -> StepRun:
    """A step of a visible run. Raises NotFound."""
    row = run_of(request, run_id).steps.filter(name=name).select_related("job", "run__version__pipeline").first()
    if row is None:
        raise NotFound("step.unknown", f"The run has no step '{name[:40]}'.", "See the run.")
    return row


def _row(pipeline: Pipeline) -> dict[str, Any]:
    version: PipelineVersion = pipeline.newest
    return {
        "id": pipeline.pk,
        "name": pipeline.name,
        "description": version.body.get("description", ""),
        "template": pipeline.template,
        "owner": pipeline.owner.username if pipeline.owner else None,
        "version": version.n,
        "steps": len(version.body["steps"]),
        "created_at": pipeline.created_at,
        "changed_at": version.created_at,
        "definition": version.body,
    }


def _only_one(body: schemas.PipelinePatch) -> None:
    """Raises Invalid unless the body holds exactly one definition."""
    given = [name for name, value in body.model_dump(exclude={"inputs"}).items() if value is not None]
    if len(given) != 1:
        known = ", ".join(name for name in type(body).model_fields if name != "inputs")
        text = f"There are {' and '.join(given)}." if given else "There is no definition."
        raise Invalid.of([Problem((), "pipeline.one_of", text, f"Give one of: {known}.")])


def _definition(body: schemas.PipelinePatch) -> Definition:
    return services.parsed(body.yaml) if body.yaml is not None else services.checked(body.definition)


@pipelines.get("", response=schemas.PipelinePage, operation_id="list_pipelines")
def list_pipelines(request: HttpRequest, cursor: str = "", limit: int = Query(50, ge=1, le=200)) -> Any:
    """Pipelines by name."""
    rows = Pipeline.objects.visible_to(request.user).filter(deleted_at=None).select_related("owner")
    found = page(rows, "name", cursor, limit)
    return {**found, "items": [_row(pipeline) for pipeline in found["items"]]}


@pipelines.post("", response={201: schemas.PipelineOut}, operation_id="create_pipeline")
def create_pipeline(request: HttpRequest, body: schemas.PipelineIn) -> Any:
    """Make a pipeline. By a template: the one that was made from it and not changed since is given again."""
    require(request.user, Role.EDITOR)
    _only_one(body)
    if body.template is not None:
        made = services.from_template(request.user, body.template)
    else:
        made = services.create(request.user, _definition(body))
    return Status(201, _row(made))


@pipelines.get("/schema", operation_id="get_pipeline_schema")
def get_schema(request: HttpRequest) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a definition, with the settings of every kind of step."""
    return json_schema.schema()


@pipelines.post("/validate", response=schemas.PipelineVerdict, operation_id="validate_pipeline")
def validate_pipeline(request: HttpRequest, body: schemas.PipelineValidateIn) -> Any:
    """Judge a definition, and perhaps a choice of inputs: all problems at once. Nothing is stored."""
    _only_one(body)
    text = services.template_yaml(body.template) if body.template is not None else body.yaml
    try:
        raw = body.definition if text is None else files.load(text)
    except Invalid as refusal:
        return {"ok": False, "errors": [problem.as_dict() for problem in refusal.problems], "definition": None}
    definition, problems = checking.read(raw)
    if definition is not None and not problems and body.inputs is not None:
        rows, problems = preflight.chosen(request.user, definition, body.inputs)
        problems = problems or list(preflight.problems(definition, rows))
    lines = files.lines(text, [problem.loc for problem in problems]) if text is not None else [None] * len(problems)
    errors = [{**problem.as_dict(), "line": line} for problem, line in zip(problems, lines, strict=True)]
    return {"ok": not problems, "errors": errors, "definition": definition.plain() if definition else None}


@pipelines.get("/{uuid:pipeline_id}", response=schemas.PipelineOut, operation_id="get_pipeline")
def get_pipeline(request: HttpRequest, pipeline_id: UUID) -> Any:
    """One pipeline with its newest definition."""
    return _row(pipeline_of(request, pipeline_id))


@pipelines.patch("/{uuid:pipeline_id}", response=schemas.PipelineOut, operation_id="change_pipeline")
def change_pipeline(request: HttpRequest, pipeline_id: UUID, body: schemas.PipelinePatch) -> Any:
    """Give it a new definition, which becomes its next version. Runs keep the one they began with."""
    require(request.user, Role.EDITOR)
    pipeline = pipeline_of(request, pipeline_id)
    _only_one(body)
    services.change(request.user, pipeline, _definition(body))
    return _row(pipeline)


@pipelines.delete("/{uuid:pipeline_id}", response={204: None}, operation_id="delete_pipeline")
def delete_pipeline(request: HttpRequest, pipeline_id: UUID) -> Any:
    """Delete it, unless one of its runs has not ended. Its runs and what they made stay."""
    require(request.user, Role.EDITOR)
    services.delete(request.user, pipeline_of(request, pipeline_id))
    return Status(204, None)


@pipelines.get("/{uuid:pipeline_id}/yaml", operation_id="get_pipeline_yaml")
def get_yaml(
    request: HttpRequest,
    pipeline_id: UUID,
    version: int = Query(0, ge=0, le=1 << 31, description="Number of a definition; 0: the newest."),
) -> HttpResponse:
    """A definition as YAML, which POST and PATCH take back."""
    pipeline = pipeline_of(request, pipeline_id)
    row = pipeline.versions.filter(n=version).first() if version else pipeline.newest
    if row is None:
        raise NotFound("pipeline.no_version", f"{pipeline} has no version {version}.", "See the list of its versions.")
    return HttpResponse(files.dump(row.definition), content_type=YAML)


@pipelines.get(
    "/{uuid:pipeline_id}/versions", response=schemas.PipelineVersionPage, operation_id="list_pipeline_versions"
)
def list_versions(
    request: HttpRequest, pipeline_id: UUID, cursor: str = "", limit: int = Query(50, ge=1, le=200)
) -> Any:
    """A pipeline's definitions, the newest first."""
    return page(PipelineVersion.objects.filter(pipeline=pipeline_of(request, pipeline_id)), "-n", cursor, limit)


@pipelines.post("/{uuid:pipeline_id}/runs", response={201: schemas.PipelineRunOut}, operation_id="start_pipeline_run")
def start_run(request: HttpRequest, pipeline_id: UUID, body: schemas.PipelineRunIn, idempotency_key: str = Key) -> Any:
    """Start a run of the newest definition. What cannot work is refused before anything starts."""
    require(request.user, Role.EDITOR)
    made = services.start(request.user, pipeline_of(request, pipeline_id), body.inputs, idempotency_key)
    return Status(201, run_of(request, made.pk))


@runs.get("", response=schemas.PipelineRunPage, operation_id="list_pipeline_runs")
def list_runs(
    request: HttpRequest,
    pipeline_id: UUID | None = None,
    state: str = Query("", description="Only these states, comma-separated."),
    cursor: str = "",
    limit: int = Query(50, ge=1, le=200),
) -> Any:
    """Runs, the newest first; only those of this pipeline, in these states."""
    rows = PipelineRun.objects.visible_to(request.user).select_related("version__pipeline", "owner")
    rows = rows.prefetch_related("steps__job")
    if pipeline_id is not None:
        rows = rows.filter(version__pipeline=pipeline_id)
    if state:
        asked = [word.strip() for word in state.split(",")]
        if wrong := [word for word in asked if word not in RunState.values]:
            hint = f"Known are: {', '.join(RunState.values)}."
            raise Invalid.of(
                [Problem(("query", "state"), "state.unknown", f"There is no state '{wrong[0][:40]}'.", hint)]
            )
        rows = rows.filter(state__in=asked)
    return page(rows, "-number", cursor, limit)


@runs.get("/{uuid:run_id}", response=schemas.PipelineRunOut, operation_id="get_pipeline_run")
def get_run(request: HttpRequest, run_id: UUID) -> Any:
    """One run: where it and every step of it stand, and what came of them."""
    return run_of(request, run_id)


@runs.get("/{uuid:run_id}/events", response=schemas.RunEventPage, operation_id="list_pipeline_run_events")
def list_events(
    request: HttpRequest,
    run_id: UUID,
    after: int = Query(0, ge=0, le=1 << 53),
    limit: int = Query(200, ge=1, le=MOST_EVENTS),
) -> Any:
    """What happened to the run and its steps after the event ``after``, in order."""
    rows = list(run_of(request, run_id).events.filter(pk__gt=after).order_by("pk")[: limit + 1])
    more, rows = len(rows) > limit, rows[:limit]
    return {"items": [{"id": row.pk, **row.as_dict()} for row in rows], "next": rows[-1].pk if more else None}


@runs.post("/{uuid:run_id}/cancel", response=schemas.PipelineRunOut, operation_id="cancel_pipeline_run")
def cancel_run(request: HttpRequest, run_id: UUID) -> Any:
    """End it: what waits is cancelled, what runs saves a checkpoint and stops."""
    services.cancel(request.user, run_of(request, run_id))
    return run_of(request, run_id)


@runs.post("/{uuid:run_id}/pause", response=schemas.PipelineRunOut, operation_id="pause_pipeline_run")
def pause_run(request: HttpRequest, run_id: UUID) -> Any:
    """Nothing new begins, and the jobs of running steps save and pause."""
    services.pause(request.user, run_of(request, run_id))
    return run_of(request, run_id)


@runs.post("/{uuid:run_id}/resume", response=schemas.PipelineRunOut, operation_id="resume_pipeline_run")
def resume_run(request: HttpRequest, run_id: UUID) -> Any:
    """Go on with a paused run; paused jobs continue from their checkpoints."""
    services.resume(request.user, run_of(request, run_id))
    return run_of(request, run_id)


@runs.post("/{uuid:run_id}/steps/{name}/retry", response=schemas.PipelineRunOut, operation_id="retry_pipeline_step")
def retry_step(request: HttpRequest, run_id: UUID, name: str) -> Any:
    """Try a failed or cancelled step again, and with it what was not reached."""
    services.retry(request.user, step_of(request, run_id, name))
    return run_of(request, run_id)


@runs.post("/{uuid:run_id}/steps/{name}/approve", response=schemas.PipelineRunOut, operation_id="approve_pipeline_step")
def approve_step(request: HttpRequest, run_id: UUID, name: str, body: schemas.StepDecisionIn) -> Any:
    """Say yes to what the step's ``digest`` stands for; to anything else the answer is a conflict."""
    services.approve(request.user, step_of(request, run_id, name), body.digest, body.note)
    return run_of(request, run_id)


@runs.post("/{uuid:run_id}/steps/{name}/reject", response=schemas.PipelineRunOut, operation_id="reject_pipeline_step")
def reject_step(request: HttpRequest, run_id: UUID, name: str, body: schemas.StepDecisionIn) -> Any:
    """Say no: the step has failed."""
    services.reject(request.user, step_of(request, run_id, name), body.digest, body.note)
    return run_of(request, run_id)


@templates.get("", response=list[schemas.PipelineTemplateRow], operation_id="list_pipeline_templates")
def list_templates(request: HttpRequest) -> Any:
    """Pipelines that are ready to run: what each is good for, and what it asks for."""
    return [_template(row) for row in TEMPLATES]


@templates.get("/{name}", response=schemas.PipelineTemplateOut, operation_id="get_pipeline_template")
def get_template(request: HttpRequest, name: str) -> Any:
    """One template with its definition."""
    definition = services.template_definition(name)
    return {**_template(TEMPLATES[name]), "definition": definition.plain(), "yaml": services.template_yaml(name)}


def _template(row: Template) -> dict[str, Any]:
    inputs = services.template_definition(row.name).plain().get("inputs", {})
    return {"name": row.name, "label": row.label, "text": row.text, "inputs": inputs}
