"""The form of a new training, its plan card, and the parts of it that htmx swaps."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid, NotFound
from training import plan, services, starts, validation
from training.choices import Choices, choices_of, grouped, method_for, reads
from training.engine import SCHEMA
from training.engine.catalog.methods import METHODS
from training.engine.errors import Problem
from training.form_fields import BLOCKS, BY_EFFORT, flatten, label_of, sentence
from training.forms import EFFORTS, SettingsForm, prefilled
from training.models import DatasetVersion, Job, OptimizerPreset
from training.views.series import visible_job

#: Where a problem of a choice is shown; all others stand beside the control of their setting.
PLACES = {
    "method": ("choose-method", "Method"),
    "others.teacher": ("others-teacher", "Teacher"),
    "others.reward_model": ("others-reward_model", "Reward model"),
    "model_version_id": ("choose-model", "Model"),
    "dataset_version_id": ("choose-data", "Data"),
    "name": ("f-name", "Name"),
    "force_memory": ("memory", "Memory"),
}


def new_job(request: HttpRequest) -> HttpResponse:
    """``/jobs/new/?from=<job>&model=<version>&data=<version>``; further parameters prefill settings by name."""
    require(request.user, Role.EDITOR)
    if request.method == "POST":
        return _start(request)
    choices, form = chosen(request, _prefill(request))
    return _page(request, choices, form)


@require_POST
def plan_card(request: HttpRequest) -> HttpResponse:
    """The plan card for what stands in the form now."""
    require(request.user, Role.EDITOR)
    choices, form = chosen(request, texts_of(request))
    other_roles = request.POST.get("roles", choices.roles) != choices.roles
    context = {**_planned(request, choices, form), **_pickers(choices, form), "other_roles": other_roles}
    return render(request, "training/_plan.html", {**context, "is_swap": True})


@require_POST
def method(request: HttpRequest) -> HttpResponse:
    """What follows from another method: its settings, the data that it reads, the further models that it needs."""
    require(request.user, Role.EDITOR)
    texts = texts_of(request)
    texts |= _kept_data(texts)
    choices, form = chosen(request, texts)
    context = {**_pickers(choices, form), "method_block": form.block("method"), "choices": choices, "is_swap": True}
    return render(request, "training/_method.html", context)


def _kept_data(texts: Mapping[str, str]) -> dict[str, str]:
    """The data set that was chosen with the method before, put aside, and the one that goes with this one."""
    before, now, data = texts.get("method.was", ""), texts.get("method", ""), texts.get("data", "")
    if before not in METHODS or now not in METHODS or reads(METHODS[before]) == reads(METHODS[now]):
        return {}
    back = texts.get(f"kept.data.{now}", "")
    return {f"kept.data.{before}": data, "data": back or data}


@require_POST
def preset(request: HttpRequest) -> HttpResponse:
    """The whole form again with an optimizer preset in it; everything else stays as it was typed."""
    require(request.user, Role.EDITOR)
    texts = texts_of(request)
    if texts.get("preset"):
        texts = with_preset(texts, services.find_preset(request.user, _known_uuid(texts["preset"])))
    choices, form = chosen(request, texts)
    return _page(request, choices, form)


@require_POST
def block(request: HttpRequest, path: str) -> HttpResponse:
    """The fields of the row that was chosen in one of the catalogs."""
    require(request.user, Role.VIEWER)
    if path not in BLOCKS:
        raise NotFound("catalog.unknown", f"There is no catalog '{path[:40]}'.", "Reload the page.")
    form = SettingsForm(texts_of(request))
    return render(request, "training/_block.html", {"block": form.block(path)})


def _start(request: HttpRequest) -> HttpResponse:
    """Queue the job, or draw the form again with every problem and all that was typed."""
    texts = texts_of(request)
    choices, form = chosen(request, texts)
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
            others={one.role: texts.get(f"others.{one.role}", "") for one in choices.others},
        )
    except Invalid as error:
        form.problems = error.problems
        return _page(request, choices, form, status=422)
    target = reverse("job", args=[job.pk])
    if getattr(request, "htmx", False):
        return HttpResponse(headers={"HX-Redirect": target})
    return redirect(target)


def chosen(request: HttpRequest, texts: Mapping[str, str]) -> tuple[Choices, SettingsForm]:
    """What can be chosen with ``texts``, and the form of the settings among them."""
    form = SettingsForm(texts)
    choices = choices_of(request.user, form.texts, form.method())
    form.rows = choices.rows
    return choices, form


def _pickers(choices: Choices, form: SettingsForm) -> dict[str, Any]:
    """The further models to choose with what is wrong about them, and choices that other methods made."""
    wrong = {".".join(map(str, p.loc)): p for p in form.problems}
    shown = {f"others.{one.role}" for one in choices.others}
    kept = [(key, text) for key, text in form.texts.items() if key.startswith("others.") and key not in shown]
    kept += [(key, text) for key, text in form.texts.items() if key.startswith("kept.data.")]
    return {"pickers": [(one, wrong.get(f"others.{one.role}")) for one in choices.others], "kept_choices": kept}


def _page(request: HttpRequest, choices: Choices, form: SettingsForm, status: int = 200) -> HttpResponse:
    texts = form.texts
    blocks = [block for block in form.blocks() if block.path != "method"]
    is_adjust = {block.path: any(f.level == "adjust" for f in block.fields) for block in blocks}
    context = {
        **_planned(request, choices, form),
        **_pickers(choices, form),
        "groups": grouped(),
        "method_block": form.block("method"),
        "problems": [_placed(problem) for problem in form.problems],
        "beside": _beside(form.problems),
        "efforts": EFFORTS.values(),
        "adjust": form.fields("adjust"),
        "expert": form.fields("expert"),
        "adjust_blocks": [block for block in blocks if is_adjust[block.path]],
        "expert_blocks": [block for block in blocks if not is_adjust[block.path]],
        "presets": OptimizerPreset.objects.visible_to(request.user),
        "texts": texts,
        "key": texts.get("key") or str(uuid.uuid4()),
    }
    name = "training/_new_job.html" if getattr(request, "htmx", False) else "training/new_job.html"
    return render(request, name, context, status=status)


def _planned(request: HttpRequest, choices: Choices, form: SettingsForm) -> dict[str, Any]:
    """What the plan card shows."""
    own_problems = form.problems
    valid = form.is_valid()
    form.problems = own_problems or form.problems
    model, data = choices.model, choices.dataset
    made = plan.make(form.settings, model, data, request.user) if form.settings else None
    name = validation.training_name(model, data) if model and data else ""
    unfit = validation.other_problems(form.settings, dict(choices.chosen_others), model) if form.settings else []
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
        "unfit": [problem for problem in unfit if not problem.code.endswith(".missing")],
        "copies": _copies(request, choices, form),
    }


def _copies(request: HttpRequest, choices: Choices, form: SettingsForm) -> list[dict[str, str]]:
    """The request as JSON, as a call of the API, and as a run of the engine alone."""
    if form.settings is None or choices.model is None or choices.dataset is None:
        return []
    asked = form.settings.model_dump(mode="json", exclude_none=True)
    body: dict[str, Any] = {
        "model_version_id": str(choices.model.pk),
        "dataset_version_id": str(choices.dataset.pk),
        "settings": asked,
    }
    others = choices.chosen_others
    if others:
        body["others"] = {role: str(version.pk) for role, version in others.items()}
    if form.texts.get("name"):
        body["name"] = form.texts["name"]
    folders: dict[str, Any] = {**starts.folders(choices.model), "data": str(choices.dataset.folder)}
    if others:
        folders["others"] = {
            role: starts.place(version).model_dump(mode="json", exclude_none=True) for role, version in others.items()
        }
    config = {"schema": SCHEMA, **folders, **asked}
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
        texts |= {f"others.{one.role}": str(one.version_id) for one in job.inputs.all()}
        texts["parent"] = str(job.pk)
    else:
        last = Job.objects.visible_to(request.user).filter(kind=Job.Kind.TRAIN, deleted_at=None).first()
        if last is not None:
            texts = {"model": str(last.model_version_id), "data": str(last.dataset_version_id)}
    if key := _known_uuid(asked.get("preset", "")):
        texts = with_preset(texts, services.find_preset(request.user, key))
    texts |= asked
    if "method" not in texts and "data" in asked:
        data = DatasetVersion.objects.visible_to(request.user).filter(pk=_known_uuid(asked["data"])).first()
        texts |= {"method": method_for(data.data_format)} if data else {}
    return texts


def _placed(problem: Problem) -> dict[str, str]:
    """A problem as a line of the summary, with the id of the control it belongs to."""
    path = ".".join(map(str, problem.loc))
    id_, label = PLACES.get(path, ("f-" + path.replace(".", "-") if path else "", label_of(path)))
    return {"id": id_, "label": label, "message": sentence(problem), "hint": problem.hint}


def _beside(problems: list[Problem]) -> dict[str, Problem]:
    """The problems that stand beside the three choices."""
    return {place: p for p in problems if (place := ".".join(map(str, p.loc))) in PLACES}


def with_preset(texts: Mapping[str, str], preset: OptimizerPreset) -> dict[str, str]:
    """``texts`` with the preset's optimizer, schedule, rate and parameter groups in place of their own."""
    own = ("optimizer", "lr_schedule")
    kept = {key: text for key, text in texts.items() if key.split(".")[0] not in own}
    return kept | flatten(preset.settings) | {"preset": str(preset.pk)}


def _known_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise NotFound("job.unknown", "There is no such job.", "Look for it in the list of jobs.") from None
