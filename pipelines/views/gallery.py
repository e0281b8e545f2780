"""Templates and pipelines: the gallery, the page of each, and the start of a run from there."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Max, OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.text import slugify
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from mlxplatform.core.access import Role, allows, require
from mlxplatform.core.errors import Invalid, NotFound
from pipelines import drawing, files, services
from pipelines.catalog import STEP_KINDS, TEMPLATES, Template
from pipelines.definition import Definition, Step
from pipelines.forms import RunForm
from pipelines.models import Pipeline, PipelineRun
from pipelines.showing import RunLine, picture
from pipelines.views.finding import visible_pipeline, visible_run
from training.engine.catalog.methods import METHODS

RUNS, VERSIONS = 20, 20  # shown


@dataclass(frozen=True, slots=True)
class Card:
    """A template in the gallery."""

    template: Template
    definition: Definition
    drawn: drawing.Drawing

    @property
    def dots(self) -> list[tuple[drawing.Place, str]]:
        """The steps of the small picture, each with its kind."""
        return [(place, self.definition.step(place.name).kind) for column in self.drawn.columns for place in column]

    @property
    def said(self) -> str:
        """The picture in words."""
        return "Steps: " + ", ".join(step.title for step in self.definition.steps)


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    """The templates, the workspace's pipelines and what ran last."""
    visible = PipelineRun.objects.visible_to(request.user).select_related("version__pipeline", "owner")
    visible = visible.prefetch_related("steps__job")
    newest = PipelineRun.objects.filter(version__pipeline=OuterRef("pk")).order_by("-number").values("pk")[:1]
    rows = Pipeline.objects.visible_to(request.user).filter(deleted_at=None).select_related("owner")
    rows = rows.annotate(
        top=Max("versions__n"), run_count=Count("versions__runs", distinct=True), last=Subquery(newest)
    )
    last = {run.pk: RunLine(run) for run in visible.filter(pk__in=[row.last for row in rows])}
    context = {
        "cards": [Card(row, made := services.template_definition(row.name), picture(made)) for row in TEMPLATES],
        "rows": [(row, last.get(row.last)) for row in rows],
        "runs": [RunLine(run) for run in visible[:RUNS]],
        "may_edit": allows(request.user, Role.EDITOR),
    }
    return render(request, "pipelines/gallery.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def template(request: HttpRequest, name: str) -> HttpResponse:
    """A template: what it does, and the form that starts it."""
    definition = services.template_definition(name)
    if request.method != "POST":
        return _page(request, definition, RunForm(request.user, definition, {}), {"template": TEMPLATES[name]})
    require(request.user, Role.EDITOR)
    texts = RunForm.posted(request.POST)
    try:
        with transaction.atomic():
            pipeline = services.from_template(request.user, name)
            run = services.start(request.user, pipeline, texts, request.POST.get("key", ""))
    except Invalid as error:
        form = RunForm(request.user, definition, texts, error.problems)
        return _page(request, definition, form, {"template": TEMPLATES[name]})
    return redirect("pipeline_run", run.pk)


@require_http_methods(["GET", "HEAD", "POST"])
def pipeline(request: HttpRequest, pipeline_id: UUID) -> HttpResponse:
    """A pipeline: what it does, its runs and versions, and the form that starts it; ``?from=<run>`` fills the form."""
    row = visible_pipeline(request.user, pipeline_id)
    definition = row.newest.definition
    if request.method != "POST":
        return _page(request, definition, RunForm(request.user, definition, _earlier(request, row)), _about(row))
    require(request.user, Role.EDITOR)
    texts = RunForm.posted(request.POST)
    try:
        run = services.start(request.user, row, texts, request.POST.get("key", ""))
    except Invalid as error:
        form = RunForm(request.user, definition, texts, error.problems)
        return _page(request, definition, form, _about(row))
    return redirect("pipeline_run", run.pk)


def _about(row: Pipeline) -> dict[str, Any]:
    runs = PipelineRun.objects.filter(version__pipeline=row).select_related("version__pipeline", "owner")
    return {
        "pipeline": row,
        "newest": row.newest,
        "runs": [RunLine(run) for run in runs.prefetch_related("steps__job")[:RUNS]],
        "versions": list(row.versions.annotate(run_count=Count("runs"))[:VERSIONS]),
    }


def _earlier(request: HttpRequest, row: Pipeline) -> dict[str, str]:
    """What the run in the address, or the newest one, was started with."""
    asked = request.GET.get("from", "")
    try:
        run: PipelineRun | None = visible_run(request.user, UUID(asked)) if asked else None
    except (NotFound, ValueError):
        run = None
    run = run or PipelineRun.objects.filter(version__pipeline=row).first()
    return {name: str(value) for name, value in run.inputs.items()} if run else {}


def _page(request: HttpRequest, definition: Definition, form: RunForm, about: dict[str, Any]) -> HttpResponse:
    drawn = picture(definition)
    context = {
        "definition": definition,
        "drawn": drawn,
        "lines": [(line, "") for line in drawn.lines],
        "columns": [[(place, definition.step(place.name)) for place in column] for column in drawn.columns],
        "steps": [_line(definition, step) for step in definition.steps],
        "fields": form.fields(),
        "problems": form.listed(),
        "key": request.POST.get("key") or str(uuid.uuid4()),
        "may_edit": allows(request.user, Role.EDITOR),
        "runs": [],
        **about,
    }
    return render(request, "pipelines/pipeline.html", context, status=422 if form.problems else 200)


def _line(definition: Definition, step: Step) -> dict[str, Any]:
    """A step in words: its kind, what it works with, and the setting that says most."""
    known = step.kind in STEP_KINDS
    kind, text = (STEP_KINDS[step.kind].label, STEP_KINDS[step.kind].text) if known else (step.kind, "")
    method = step.settings.get("method", "sft")
    method = str(method.get("name") if isinstance(method, dict) else method)
    if step.kind == "train" and method in METHODS:
        kind, text = METHODS[method].label, METHODS[method].summary
    needs = list(definition.needs(step))
    return {
        "step": step,
        "kind": kind,
        "text": text,
        "code": step.settings.get("condition") or step.settings.get("alias"),
        "question": step.settings.get("question"),
        "after": [definition.step(name).title for name, wish in needs if wish == "succeeded"],
        "unless": [definition.step(name).title for name, wish in needs if wish == "failed"],
    }


@require_safe
def export(request: HttpRequest, pipeline_id: UUID) -> HttpResponse:
    """The newest definition, or version ``?v=``, as a file."""
    row = visible_pipeline(request.user, pipeline_id)
    asked = request.GET.get("v", "")
    version = row.versions.filter(n=int(asked)).first() if asked.isdecimal() and len(asked) < 10 else row.newest
    if version is None:
        raise NotFound("pipeline.version", f"{row} has no version {asked[:10]}.", "Choose one of its versions.")
    answer = HttpResponse(files.dump(version.definition), content_type="application/yaml; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{slugify(row.name) or "pipeline"}.yaml"'
    return answer


@require_POST
def delete(request: HttpRequest, pipeline_id: UUID) -> HttpResponse:
    """Out of sight; its runs stay."""
    services.delete(request.user, visible_pipeline(request.user, pipeline_id))
    return redirect("pipelines")
