"""The page of optimizers and schedules: explained, tried with their curve, and saved as presets."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from mlxplatform.core.access import Role, allows, require
from mlxplatform.core.errors import Invalid
from training import rates, services
from training.engine.catalog.optimizer_memory import state_bytes
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.schedules import SCHEDULES
from training.engine.config.training import TrainSettings
from training.engine.errors import Problem
from training.form_fields import flatten, label_of, sentence
from training.forms import SettingsForm
from training.models import OptimizerPreset
from training.optimizer_api import about
from training.views.new_job import texts_of

UPDATES, MOST_UPDATES = 400, 10**7
SPARK_UPDATES = 120


@require_http_methods(["GET", "HEAD"])
def optimizers(request: HttpRequest) -> HttpResponse:
    """``/optimizers/?preset=<id>``; other parameters fill settings in by name."""
    require(request.user, Role.VIEWER)
    texts = {key: str(request.GET[key]) for key in request.GET}
    preset = services.find_preset(request.user, UUID(texts["preset"])) if _is_uuid(texts.get("preset", "")) else None
    if preset is not None:
        texts = flatten(preset.settings) | {"preset": str(preset.pk), "preset_name": preset.name} | texts
    return _page(request, SettingsForm(texts), preset)


@require_POST
def preview(request: HttpRequest) -> HttpResponse:
    """The curve and the figures of what stands in the form now."""
    require(request.user, Role.VIEWER)
    return render(request, "training/_optimizer_preview.html", _previewed(SettingsForm(texts_of(request))))


@require_POST
def save(request: HttpRequest) -> HttpResponse:
    """Save a new preset, or the one that is open; from the form of a new job as a fragment that says so."""
    require(request.user, Role.EDITOR)
    form = SettingsForm(texts_of(request))
    raw = form.raw()
    settings = {key: raw[key] for key in OptimizerPreset.KEYS if key in raw}
    name, within = form.texts.get("preset_name", ""), form.texts.get("within") == "job"
    changed = form.texts.get("preset", "") if form.texts.get("save") == "changes" else ""
    preset = services.find_preset(request.user, UUID(changed)) if _is_uuid(changed) else None
    try:
        if preset is not None:
            preset = services.change_preset(request.user, preset, name=name, settings=settings)
        else:
            preset = services.create_preset(request.user, name, settings)
    except Invalid as error:
        form.problems = error.problems
        if within:
            return render(request, "training/_preset_saved.html", {"problems": _placed(error.problems)})
        return _page(request, form, preset, status=422)
    if within:
        return render(request, "training/_preset_saved.html", {"preset": preset})
    messages.success(request, f"Saved as {preset.name}.")
    return redirect(f"{reverse('optimizers')}?preset={preset.pk}")


@require_POST
def delete(request: HttpRequest, preset_id: UUID) -> HttpResponse:
    """Delete a preset; its settings stay in the audit trail."""
    require(request.user, Role.EDITOR)
    preset = services.find_preset(request.user, preset_id)
    services.delete_preset(request.user, preset)
    messages.success(request, f"The preset {preset.name} is deleted. Jobs that were made with it keep their settings.")
    return redirect("optimizers")


def _page(request: HttpRequest, form: SettingsForm, preset: OptimizerPreset | None, status: int = 200) -> HttpResponse:
    problems, own = list(form.problems), {"learning_rate", "parameter_groups"}
    preview = _previewed(form)
    form.problems = problems or form.problems
    context = {
        **preview,
        "form": form,
        "preset": preset,
        "problems": _placed(problems),
        "name_problem": next((p for p in problems if p.loc == ("name",)), None),
        "name": form.texts.get("preset_name", ""),
        "total": updates_of(form),
        "blocks": [form.block("optimizer"), form.block("lr_schedule")],
        "fields": [field for field in form.fields() if field.path in own],
        "presets": OptimizerPreset.objects.visible_to(request.user).select_related("owner"),
        "optimizers": [(row, about(row), state_bytes(row.settings(name=row.name))) for row in OPTIMIZERS],
        "schedules": [(row, about(row), _spark(row.name)) for row in SCHEDULES],
        "may_edit": allows(request.user, Role.EDITOR),
    }
    return render(request, "training/optimizers.html", context, status=status)


def _previewed(form: SettingsForm) -> dict[str, Any]:
    """The curve and the memory, or what is wrong."""
    if not form.is_valid() or form.settings is None:
        return {"curve": None, "wrong": _placed(form.problems)}
    kept = state_bytes(form.settings.optimizer)
    return {"curve": rates.curve(form.settings, updates_of(form)), "settings": form.settings, "kept": kept}


def updates_of(form: SettingsForm) -> int:
    """The length that the curve is drawn for: what was typed, within its limits."""
    text = form.texts.get("total", "")
    return min(max(1, int(text[:9])), MOST_UPDATES) if text.isdecimal() and text.isascii() else UPDATES


def _spark(name: str) -> rates.Curve:
    settings = TrainSettings(lr_schedule=SCHEDULES[name].settings(name=name), learning_rate=1.0)
    return rates.curve(settings, SPARK_UPDATES)


def _placed(problems: list[Problem]) -> list[dict[str, str]]:
    """Problems as lines of a summary, with the ids of their controls."""
    rows = []
    for problem in problems:
        path = ".".join(map(str, problem.loc))
        place = "f-preset_name" if path == "name" else "f-" + path.replace(".", "-")
        label = "Name" if path == "name" else label_of(path)
        rows.append({"id": place, "label": label, "message": sentence(problem), "hint": problem.hint})
    return rows


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
