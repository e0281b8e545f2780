"""What is made out of a model, on pages: a smaller model, and a data set of its answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid
from training import services
from training.forms_derive import DeriveForm, GeneratedForm, StudentForm
from training.models import Job


def student(request: HttpRequest) -> HttpResponse:
    """``/jobs/student/?model=<version>``."""
    return _asked(request, StudentForm, services.create_student)


def generated(request: HttpRequest) -> HttpResponse:
    """``/jobs/generate/?model=<version>&data=<version>``."""
    return _asked(request, GeneratedForm, services.create_generated_dataset)


def _asked(request: HttpRequest, kind: type[DeriveForm], make: Callable[..., Job]) -> HttpResponse:
    require(request.user, Role.EDITOR)
    if request.method != "POST":
        return _page(request, kind(request.user, {key: str(request.GET[key]) for key in request.GET}), 200)
    texts: dict[str, Any] = {key: str(request.POST[key]) for key in request.POST if key != "csrfmiddlewaretoken"}
    try:
        job = make(request.user, **kind(request.user, texts).arguments())
    except Invalid as error:
        return _page(request, kind(request.user, texts, error.problems), 422)
    return redirect("job", job.pk)


def _page(request: HttpRequest, form: DeriveForm, status: int) -> HttpResponse:
    key = form.texts.get("key") or str(uuid.uuid4())
    context = {"form": form, "boxes": form.boxes(), "problems": form.listed(), "key": key}
    return render(request, "training/derive.html", context, status=status)
