"""The card "Set up for me" in the form of a new training: proposed settings, why, and a link that fills them in."""

from __future__ import annotations

from typing import Any, get_args
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import DomainError
from training import services
from training.engine.catalog.method_settings import Other
from training.form_fields import flatten, label_of
from training.plan import shown
from training.services.autoconfig import Configured
from training.views.new_job import texts_of

#: What a person has already said in the form and keeps.
OTHERS: tuple[str, ...] = get_args(Other)
KEPT = ("data", "name", "parent", *(f"others.{role}" for role in OTHERS))


@require_POST
def autoconfig_card(request: HttpRequest) -> HttpResponse:
    """Settings for the model, data and method that stand in the form now. The engine is asked, which takes seconds."""
    require(request.user, Role.EDITOR)
    texts = texts_of(request)
    context: dict[str, Any] = {}
    try:
        others = {role: texts.get(f"others.{role}") for role in OTHERS}
        made = services.configure(
            request.user, texts.get("model"), texts.get("data"), texts.get("method"), others=others
        )
    except DomainError as error:
        context["error"] = error
    else:
        context = {"made": made, "lines": _lines(made), "address": address(made, texts)}
    return render(request, "training/_autoconfig.html", context)


def _lines(made: Configured) -> list[dict[str, str]]:
    """The proposed settings with their labels and reasons; of what was given up the value that it has now."""
    now = flatten(made.settings)
    lines = []
    for reason in made.proposal.reasons:
        value = now.get(reason.path, "")
        same = value == flatten({reason.path: reason.value}).get(reason.path)
        why = reason.why if same else "Changed so that it fits; see above."
        lines.append({"label": label_of(reason.path), "value": shown(value.replace("\n", ", ")), "why": why})
    return lines


def address(made: Configured, texts: dict[str, str]) -> str:
    """The form of a new training with all of it filled in."""
    kept = {key: texts[key] for key in KEPT if texts.get(key)}
    return f"{reverse('job_new')}?{urlencode({**kept, 'model': str(made.model.pk), **flatten(made.settings)})}"
