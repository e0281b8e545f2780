"""The form of a new training, its plan card, and the parts of it that htmx swaps."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid, NotFound
from registry.models import ModelVersion
from training import plan, services, starts, validation
from training.engine import SCHEMA
from training.engine.errors import Problem
from training.forms import BLOCKS, BY_EFFORT, EFFORTS, SettingsForm, label_of, prefilled, sentence
from training.models import DatasetVersion, Job
from training.views.series import visible_job

#: Where a problem of a choice is shown; all others stand beside the control of their setting.
PLACES = {
    "model_version_id": ("choose-model", "Model"),
    "dataset_version_id": ("choose-data", "Data"),
    "name": ("f-name", "Name"),
    "force_memory": ("memory", "Memory"),
}


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be chosen, and what is."""

    models: list[ModelVersion]
    data: list[DatasetVersion]
    model: ModelVersion | None
    dataset: DatasetVersion | None

    @property
    def rows(self) -> int | None:
        """Rows to train on, if a data set is chosen."""
        return self.dataset.rows_train if self.dataset else None


def new_job(request: HttpRequest) -> HttpResponse:
    """``/jobs/new/?from=<job>&model=<version>&data=<version>``; further parameters prefill settings by name."""
    require(request.user, Role.EDITOR)
    if request.method == "POST":
        return _start(request)
    texts = _prefill(request)
    choices = choices_of(request.user, texts)
    return _page(request, texts, choices, SettingsForm(texts, choices.rows))


@require_POST
def plan_card(request: HttpRequest) -> HttpResponse:
    """The plan card for what stands in the form now."""
    require(request.user, Role.EDITOR)
    texts = texts_of(request)
    choices = choices_of(request.user, texts)
    form = SettingsForm(texts, choices.rows)
    return render(request, "training/_plan.html", {**_planned(request, texts, choices, form), "is_swap": True})


@require_POST
def block(request: HttpRequest, path: str) -> HttpResponse:
    """The fields of the row that was chosen in one of the catalogs."""
    require(request.user, Role.EDITOR)
    if path not in BLOCKS:
        raise NotFound("catalog.unknown", f"There is no catalog '{path[:40]}'.", "Reload the page.")
    form = SettingsForm(texts_of(request))
    form.forget_defaults(path)
    return render(request, "training/_block.html", {"block": form.block(path)})


def _start(request: HttpRequest) -> HttpResponse:
    """Queue the job, or draw the form again with every problem and all that was typed."""
    texts = texts_of(request)
    choices = choices_of(request.user, texts)
    form = SettingsForm(texts, choices.rows)
    try:
        job = services.create_training(
            request.user,
            name=texts.get("name", ""),
            model_version_id=texts.get("model", ""),
            dataset_version_id=texts.get("data", ""),
            settings=form.raw(),
            parent=texts.get("parent") or None,
            idempotency_key=texts.get("key", ""),
            force_memory=texts.get("force_memory") == "on",
        )
    except Invalid as error:
        form.problems = error.problems
        return _page(request, texts, choices, form, status=422)
    target = reverse("job", args=[job.pk])
    if getattr(request, "htmx", False):
        return HttpResponse(headers={"HX-Redirect": target})
    return redirect(target)


def _page(
    request: HttpRequest, texts: dict[str, str], choices: Choices, form: SettingsForm, status: int = 200
) -> HttpResponse:
    blocks = form.blocks()
    is_adjust = {path: any(f.level == "adjust" for f in form.block(path).fields) for path in BLOCKS}
    context = {
        **_planned(request, texts, choices, form),
        "choices": choices,
        "problems": [_placed(problem) for problem in form.problems],
        "beside": _beside(form.problems),
        "efforts": EFFORTS.values(),
        "adjust": form.fields("adjust"),
        "expert": form.fields("expert"),
        "adjust_blocks": [block for block in blocks if is_adjust[block.path]],
        "expert_blocks": [block for block in blocks if not is_adjust[block.path]],
        "texts": texts,
        "key": texts.get("key") or str(uuid.uuid4()),
    }
    name = "training/_new_job.html" if getattr(request, "htmx", False) else "training/new_job.html"
    return render(request, name, context, status=status)


def _planned(request: HttpRequest, texts: Mapping[str, str], choices: Choices, form: SettingsForm) -> dict[str, Any]:
    """What the plan card shows."""
    own_problems = form.problems
    valid = form.is_valid()
    form.problems = own_problems or form.problems
    model, data = choices.model, choices.dataset
    made = plan.make(form.settings, model, data, request.user) if form.settings else None
    name = validation.training_name(model, data) if model and data else ""
    device = Job.objects.filter(resource=Job.Resource.DEVICE)
    return {
        "form": form,
        "ahead": device.active().count() + device.waiting().count(),
        "by_effort": [field for field in form.fields() if field.path in BY_EFFORT],
        "plan": made,
        "choices": choices,
        "is_valid": valid,
        "auto_name": name,
        "adapter_alpha": getattr(form.settings.adapter, "alpha", None) if form.settings else None,
        "copies": _copies(request, texts, choices, form),
    }


def _copies(
    request: HttpRequest, texts: Mapping[str, str], choices: Choices, form: SettingsForm
) -> list[dict[str, str]]:
    """The request as JSON, as a call of the API, and as a run of the engine alone."""
    if form.settings is None or choices.model is None or choices.dataset is None:
        return []
    asked = form.settings.model_dump(mode="json", exclude_none=True)
    body = {
        "model_version_id": str(choices.model.pk),
        "dataset_version_id": str(choices.dataset.pk),
        "settings": asked,
    }
    if texts.get("name"):
        body["name"] = texts["name"]
    config = {"schema": SCHEMA, **starts.folders(choices.model), "data": str(choices.dataset.folder), **asked}
    url = request.build_absolute_uri("/api/v1/jobs")
    curl = (
        f"curl {url} \\\n  -H 'Authorization: Bearer '\"$MLXP_TOKEN\" -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
    )
    cli = (
        f"cat > config.json <<'END'\n{json.dumps(config, indent=1, ensure_ascii=False)}\nEND\n"
        "python -m training.engine train --config config.json --run-dir run/"
    )
    return [
        {"id": "json", "label": "JSON", "text": json.dumps(body, indent=1, ensure_ascii=False)},
        {"id": "curl", "label": "API call", "text": curl},
        {"id": "cli", "label": "Command line", "text": cli},
    ]


def texts_of(request: HttpRequest) -> dict[str, str]:
    """What was posted; of a name that comes twice (a flag and its hidden twin) the last one."""
    return {key: str(request.POST[key]) for key in request.POST if key != "csrfmiddlewaretoken"}


def _prefill(request: HttpRequest) -> dict[str, str]:
    """The texts of an untouched form: of an earlier job, of what the link says, of the last training."""
    asked = {key: str(request.GET[key]) for key in request.GET}
    texts: dict[str, str] = {}
    source = asked.pop("from", "")
    if source:
        job = visible_job(request.user, _uuid(source))
        rows = job.dataset_version.rows_train if job.dataset_version else None
        texts = prefilled(job.settings, rows) if job.kind == Job.Kind.TRAIN else {}
        texts |= {"model": str(job.model_version_id or ""), "data": str(job.dataset_version_id or "")}
        texts["parent"] = str(job.pk)
    else:
        last = Job.objects.visible_to(request.user).filter(kind=Job.Kind.TRAIN, deleted_at=None).first()
        if last is not None:
            texts = {"model": str(last.model_version_id), "data": str(last.dataset_version_id)}
    return texts | asked


def choices_of(user: Any, texts: Mapping[str, str]) -> Choices:
    """Newest version of each model (adapters last) and of each data set, and the chosen ones."""
    adapter = ModelVersion.Kind.ADAPTER
    models = ModelVersion.objects.visible_to(user).select_related("model", "base__model")
    models = models.filter(model__deleted_at=None).exclude(kind=adapter, base=None).order_by("model_id", "-n")
    data = DatasetVersion.objects.visible_to(user).select_related("dataset").filter(dataset__deleted_at=None)
    data = data.order_by("dataset_id", "-n")
    shown_models = _newest(list(models), "model_id", texts.get("model", ""))
    shown_models.sort(key=lambda version: version.kind == adapter)
    shown_data = _newest(list(data), "dataset_id", texts.get("data", ""))
    return Choices(
        shown_models, shown_data, _chosen(shown_models, texts.get("model")), _chosen(shown_data, texts.get("data"))
    )


def _newest(rows: list[Any], group: str, wanted: str) -> list[Any]:
    """The first row of each group and the wanted one, the newest first."""
    seen: set[Any] = set()
    kept = []
    for row in rows:
        if getattr(row, group) not in seen or str(row.pk) == wanted:
            kept.append(row)
        seen.add(getattr(row, group))
    return sorted(kept, key=lambda row: row.created_at, reverse=True)


def _chosen(rows: list[Any], wanted: str | None) -> Any:
    """The wanted row; without a wish the newest; None for a wish that is not there."""
    if wanted:
        return next((row for row in rows if str(row.pk) == wanted), None)
    return rows[0] if rows else None


def _placed(problem: Problem) -> dict[str, str]:
    """A problem as a line of the summary, with the id of the control it belongs to."""
    path = ".".join(map(str, problem.loc))
    id_, label = PLACES.get(path, ("f-" + path.replace(".", "-") if path else "", label_of(path)))
    return {"id": id_, "label": label, "message": sentence(problem), "hint": problem.hint}


def _beside(problems: list[Problem]) -> dict[str, Problem]:
    """The problems that stand beside the three choices."""
    return {place: p for p in problems if (place := ".".join(map(str, p.loc))) in PLACES}


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise NotFound("job.unknown", "There is no such job.", "Look for it in the list of jobs.") from None
