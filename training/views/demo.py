"""The demo page: fetch model and data, then start the training, one button each."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from mlxplatform.core.access import Role, require
from training import demo
from training.models import Job
from training.summary import summary


@require_http_methods(["GET", "HEAD", "POST"])
def demo_page(request: HttpRequest) -> HttpResponse:
    """GET shows how far the demo is; POST takes the next step: fetch what is missing, or start training."""
    require(request.user, Role.EDITOR)
    if request.method == "POST":
        if demo.find().is_ready:
            return redirect("job", demo.start(request.user).pk)
        demo.prepare(request.user)
        return redirect("demo")
    found = demo.find()
    return render(request, "training/demo.html", {"demo": found, "parts": _parts(found), "settings": demo.SETTINGS})


def _parts(found: demo.Demo) -> list[dict[str, object]]:
    """Model and data: whether each is here, and the job that brings it."""
    return [
        _part("Model", demo.MODEL_NAME, "98 MB, from a Python package", found.model, found.model_job),
        _part("Data", demo.DATA_NAME, "made from the docstrings of this machine's Python", found.data, found.data_job),
    ]


def _part(kind: str, name: str, source: str, version: object, job: Job | None) -> dict[str, object]:
    shown = summary(job) if job is not None and version is None else None
    return {"kind": kind, "name": name, "source": source, "version": version, "job": job, "summary": shown}
