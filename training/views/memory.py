"""The card of the memory plan beside the form of a new training; it comes after the page, since the engine is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import DomainError
from training import memory_plans
from training.form_fields import flatten
from training.views.new_job import chosen, texts_of


@dataclass(frozen=True, slots=True)
class Part:
    """An item of the plan in the bar; places in percent of what there is, or of the total where that is more."""

    name: str
    text: str
    bytes: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Another setting, and what it would save."""

    label: str
    saves: int
    total: int
    fits: bool
    values: dict[str, str]
    """Texts of the form's controls."""

    @property
    def json(self) -> str:
        """The same for ``job_form.js``."""
        return json.dumps(self.values)


@require_POST
def memory_card(request: HttpRequest) -> HttpResponse:
    """What the training that stands in the form would hold in memory."""
    require(request.user, Role.EDITOR)
    texts = texts_of(request)
    choices, form = chosen(request, texts)
    context: dict[str, Any] = {"answer": None}
    if form.is_valid() and form.settings and choices.model and choices.dataset:
        measure = texts.get("measure") == "on"
        try:
            answer = memory_plans.ask(
                form.settings, choices.model, choices.dataset, measure=measure, others=choices.chosen_others
            )
        except DomainError as error:
            context["error"] = error
        else:
            context = {"answer": answer, "parts": parts(answer), "suggestions": suggestions(answer)}
    return render(request, "training/_memory.html", context)


def parts(answer: dict[str, Any]) -> list[Part]:
    """The items that meet at the peak, the largest first."""
    whole = max(answer["limit"], answer["total"], 1)
    found, x = [], 0.0
    for line in sorted((one for one in answer["lines"] if one["at_peak"]), key=lambda one: -one["bytes"]):
        width = round(100 * line["bytes"] / whole, 3)
        found.append(Part(line["name"], line["text"], line["bytes"], round(x, 3), width))
        x += width
    return found


def suggestions(answer: dict[str, Any]) -> list[Suggestion]:
    """The engine's suggestions with what they put into the form."""
    return [
        Suggestion(s["label"], s["saves"], s["total"], s["fits"], flatten(s["changes"])) for s in answer["suggestions"]
    ]
