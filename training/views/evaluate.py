"""Evaluations on pages: the form of a new one, and those of a model version."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from mlxplatform.core.access import Role, allows, require
from mlxplatform.core.errors import Invalid, NotFound
from registry.models import ModelVersion
from training import figures, services
from training.forms_evaluation import EvaluationForm, rule_lines
from training.models import Evaluation

SHOWN = 20


def new(request: HttpRequest) -> HttpResponse:
    """``/jobs/evaluate/?model=<version>&checkpoint=<id>&data=<version>``."""
    require(request.user, Role.EDITOR)
    if request.method != "POST":
        form = EvaluationForm(request.user, {key: str(request.GET[key]) for key in request.GET})
        return _page(request, form, 200)
    texts = {key: str(request.POST[key]) for key in request.POST if key != "csrfmiddlewaretoken"}
    form = EvaluationForm(request.user, texts)
    try:
        job = services.create_evaluation(request.user, **form.arguments())
    except Invalid as error:
        return _page(request, EvaluationForm(request.user, texts, error.problems), 422)
    return redirect("job", job.pk)


def _page(request: HttpRequest, form: EvaluationForm, status: int) -> HttpResponse:
    if form.texts.get("checkpoint") and form.checkpoint is None and not form.problems:
        raise NotFound("checkpoint.unknown", "There is no such checkpoint.", "Choose one of the training's list.")
    context = {
        "form": form,
        "choices": form.choices(),
        "problems": form.listed(),
        "rules": rule_lines(),
        "simple": form.fields("simple"),
        "adjust": form.fields("adjust") + form.fields("expert"),
        "key": form.texts.get("key") or str(uuid.uuid4()),
    }
    return render(request, "training/new_evaluation.html", context, status=status)


@require_safe
def of_version(request: HttpRequest, version_id: Any) -> HttpResponse:
    """For a model version's page: what its evaluations found, the best of those alike marked."""
    version = ModelVersion.objects.visible_to(request.user).filter(pk=version_id).first()
    if version is None:
        raise NotFound("model.unknown", "There is no such model version.", "Look at the list of models.")
    seen = Evaluation.objects.visible_to(request.user).filter(job__deleted_at=None)
    rows = list(seen.filter(model_version=version).select_related("job", "dataset_version__dataset")[:SHOWN])
    columns = figures.columns(rows)
    context = {
        "version": version,
        "columns": columns,
        "rows": [(row, figures.of(row, columns, seen)) for row in rows],
        "may_edit": allows(request.user, Role.EDITOR),
    }
    return render(request, "models/_evaluations.html", context)
