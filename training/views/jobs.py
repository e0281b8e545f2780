"""The list of jobs: found, sorted and paged by the query string."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from mlxplatform.core.access import Role, allows
from mlxplatform.core.errors import DomainError, NotFound
from training import services
from training.engine.catalog.kinds import KINDS
from training.models import Job, Metric
from training.states import ACTIVE, JobState
from training.summary import summaries

PAGE = 50
FILTERS = {
    "": ("All", None),
    "active": ("Running", [*ACTIVE]),
    "queued": ("Queued", [JobState.QUEUED]),
    "failed": ("Failed", [JobState.FAILED]),
    "stopped": ("Stopped or paused", [JobState.STOPPED, JobState.PAUSED]),
    "succeeded": ("Succeeded", [JobState.SUCCEEDED]),
}
#: Column of the list → what it is sorted by; a metric's name stands for its best or newest value.
SORTS: dict[str, Any] = {
    "number": "number",
    "name": "name",
    "state": "state",
    "model": "model_version__model__name",
    "data": "dataset_version__dataset__name",
    "progress": "progress",
    "when": "created_at",
    "best": ("val_loss", "best_value"),
    "speed": ("tokens_per_second", "last_value"),
    "memory": ("peak_memory_gb", "last_value"),
}
COLUMNS = (
    ("state", "State", False),
    ("name", "Job", False),
    ("model", "Model", False),
    ("data", "Data", False),
    ("", "Method", False),
    ("progress", "Progress", False),
    ("best", "Best val", True),
    ("", "Against start", True),
    ("speed", "Tok/s", True),
    ("memory", "Peak GB", True),
    ("when", "Made", False),
)
BULK = {"stop": services.request_stop, "resume": services.resume, "delete": services.delete}


def job_list(request: HttpRequest) -> HttpResponse:
    """One page of the list."""
    asked = request.GET
    jobs = _found(request)
    page = Paginator(_sorted(jobs, asked.get("sort", "")), PAGE).get_page(asked.get("page"))
    rows = summaries(page.object_list)
    return render(
        request,
        "training/jobs.html",
        {
            "page": page,
            "rows": rows,
            "columns": _columns(asked.get("sort", "")),
            "filters": [(key, label) for key, (label, _) in FILTERS.items()],
            "kinds": [(kind.name, kind.label) for kind in KINDS.values()],
            "asked": asked,
            "undo": _trashed(request),
            "is_filtered": any(asked.get(key) for key in ("q", "state", "kind")),
            "may_edit": allows(request.user, Role.EDITOR),
        },
    )


def _trashed(request: HttpRequest) -> Job | None:
    """The job that was just thrown away, so that the page can offer to undo it."""
    wanted = request.GET.get("trashed", "")
    rows = Job.objects.visible_to(request.user).exclude(deleted_at=None)
    found: Job | None = rows.filter(pk=wanted).first() if _is_uuid(wanted) else None
    return found


def _found(request: HttpRequest) -> QuerySet[Job]:
    jobs: QuerySet[Job] = Job.objects.visible_to(request.user).filter(deleted_at=None)
    jobs = jobs.select_related("model_version__model", "dataset_version__dataset")
    states = FILTERS.get(request.GET.get("state", ""), FILTERS[""])[1]
    if states:
        jobs = jobs.filter(state__in=states)
    if request.GET.get("kind") in KINDS:
        jobs = jobs.filter(kind=request.GET["kind"])
    words = request.GET.get("q", "").strip()[:200]
    number = words.lstrip("#")
    if words.startswith("#") and number.isdecimal():
        return jobs.filter(number=int(number[:9]))
    for word in words.split():
        fits = Q(name__icontains=word) | Q(notes__icontains=word) | Q(model_version__model__name__icontains=word)
        jobs = jobs.filter(fits | Q(dataset_version__dataset__name__icontains=word))
    return jobs


def _sorted(jobs: QuerySet[Job], asked: str) -> QuerySet[Job]:
    down, key = asked.startswith("-"), asked.lstrip("-")
    by = SORTS.get(key)
    if by is None:
        return jobs.order_by("-number")
    if isinstance(by, tuple):
        name, column = by
        metric = Metric.objects.filter(job=OuterRef("pk"), name=name).values(column)[:1]
        jobs, by = jobs.annotate(sorted_by=Subquery(metric)), "sorted_by"
    order = F(by).desc(nulls_last=True) if down else F(by).asc(nulls_last=True)
    return jobs.order_by(order, "-number")


def _columns(asked: str) -> list[dict[str, Any]]:
    """The heads of the table; a second click on a column turns its order round."""
    heads = []
    for key, label, is_number in COLUMNS:
        now = {f"{key}": "ascending", f"-{key}": "descending"}.get(asked, "none") if key else ""
        heads.append(
            {"key": key, "label": label, "num": is_number, "now": now, "next": f"-{key}" if asked == key else key}
        )
    return heads


def by_number(request: HttpRequest, number: int) -> HttpResponse:
    """``/jobs/142/`` leads to the job's own address."""
    job = Job.objects.visible_to(request.user).filter(number=number).first()
    if job is None:
        raise NotFound("job.unknown", f"There is no job #{number}.", "Look for it in the list of jobs.")
    return redirect("job", job.pk)


@require_POST
def bulk(request: HttpRequest) -> HttpResponse:
    """Do one thing to all selected jobs; what could not be done is said, the rest is done."""
    act = BULK.get(request.POST.get("action", ""))
    keys = [key for key in request.POST.getlist("job")[:PAGE] if _is_uuid(key)]
    refused = []
    if act is not None:
        for job in Job.objects.visible_to(request.user).filter(pk__in=keys):
            try:
                act(request.user, job)
            except DomainError as error:
                refused.append(str(error))
    for text in refused:
        messages.error(request, text)
    if act is not None and len(refused) < len(keys):
        done = {"stop": "asked to stop", "resume": "queued again", "delete": "put into the trash"}
        messages.success(request, f"{len(keys) - len(refused)} of {len(keys)}: {done[request.POST['action']]}.")
    return redirect(back(request, reverse("jobs")))


def back(request: HttpRequest, otherwise: str) -> str:
    """The address in the form's ``next`` if it is one of ours, else ``otherwise``."""
    wanted = request.POST.get("next", "")
    return (
        wanted if wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) else otherwise
    )


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
