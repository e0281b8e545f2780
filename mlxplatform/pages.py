"""Pages of the roof and what every page shows around its content."""

from __future__ import annotations

import shutil
import sys
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from mlxplatform.core.access import Role, allows
from mlxplatform.core.env import ROOT, env
from pipelines.models import PipelineRun, StepRun
from pipelines.states import RunState, StepState
from registry.models import ModelVersion
from training.alive import worker_is_alive
from training.charts import sparks
from training.models import DatasetVersion, DeviceSlot, Job
from training.states import JobState
from training.summary import Summary, summaries
from training.uploads import free_bytes

LAST_FINISHED = 8
FAILED_SHOWN = APPROVALS_SHOWN = 5
QUEUE_SHOWN = 8
LOW_DISK = 5 * 10**9  # bytes beyond the reserve


def chrome(request: HttpRequest) -> dict[str, Any]:
    """What ``base.html`` needs: the theme, kept in a cookie so that the server prints it without a flash."""
    theme = request.COOKIES.get("theme", "auto")
    return {"theme": theme if theme in {"auto", "light", "dark"} else "auto"}


def home(request: HttpRequest) -> HttpResponse:
    """What runs, what waits, what ended, and what needs a person."""
    jobs = (
        Job.objects.visible_to(request.user)
        .present()
        .select_related("model_version__model", "dataset_version__dataset")
    )
    active = summaries(jobs.active().order_by("started_at", "number"))
    queue = summaries(jobs.waiting()[:QUEUE_SHOWN])
    finished = summaries(jobs.filter(state__in=ENDED_WELL).order_by("-ended_at")[:LAST_FINISHED])
    failed = summaries(_failures(jobs))
    lines = sparks([about.job for about in active if about.is_training])
    needs = {
        "approvals": _approvals(request.user),
        "failed": failed,
        "disk": _low_disk(),
        "worker": _worker_command(bool(active or queue)),
    }
    context = {
        "active": [(about, lines.get(about.job.pk, [])) for about in active],
        "queue": queue,
        "finished": finished,
        "needs": needs if any(needs.values()) else None,
        "machine": _machine(),
        "is_empty": not (active or queue or finished or failed),
        "has_model": ModelVersion.objects.visible_to(request.user).exists(),
        "has_data": DatasetVersion.objects.visible_to(request.user).exists(),
        "may_edit": allows(request.user, Role.EDITOR),
    }
    return render(request, "home.html", context)


ENDED_WELL = (JobState.SUCCEEDED, JobState.STOPPED, JobState.PAUSED)


def _approvals(user: Any) -> list[StepRun]:
    """Steps of pipelines that wait for a person's word, the longest waiting first."""
    runs = PipelineRun.objects.visible_to(user).filter(state=RunState.RUNNING, cancel_requested_at=None)
    rows = StepRun.objects.filter(run__in=runs, state=StepState.APPROVAL).select_related("run__version__pipeline")
    return list(rows.order_by("started_at")[:APPROVALS_SHOWN])


def _failures(jobs: Any) -> Any:
    """The newest failed jobs that nobody has put right since by a job made from them."""
    failed = jobs.filter(state=JobState.FAILED).exclude(children__deleted_at=None, children__isnull=False)
    return failed.order_by("-ended_at")[:FAILED_SHOWN]


def _low_disk() -> str:
    """The sentence about a disk that is nearly full, or nothing."""
    left = free_bytes()
    if left > LOW_DISK:
        return ""
    reserve = f"the reserve of {env().reserve_gb:g} GB"
    if left <= 0:
        return f"The disk is full up to {reserve}: nothing new can start."
    return f"The disk has {left / 1e9:.1f} GB left beyond {reserve}."


def _worker_command(is_needed: bool) -> str:
    """The command that starts a worker, if none runs; nothing otherwise."""
    if worker_is_alive():
        return ""
    return f"{sys.executable} {ROOT / 'manage.py'} serve" if is_needed or settings.DEBUG else ""


def _machine() -> dict[str, Any]:
    slots = list(DeviceSlot.objects.filter(resource=Job.Resource.DEVICE).select_related("job"))
    usage = shutil.disk_usage(settings.HOME)
    return {
        "slots": slots,
        "busy": sum(slot.job_id is not None for slot in slots),
        "free": usage.free,
        "total": usage.total,
        "worker": worker_is_alive(),
    }


def slot_strip(request: HttpRequest) -> HttpResponse:
    """The line in the top bar of every page: what holds the device, and how many wait."""
    jobs = Job.objects.visible_to(request.user).present()
    active: list[Summary] = summaries(jobs.active().filter(resource=Job.Resource.DEVICE).order_by("number"))
    waiting = jobs.waiting().filter(resource=Job.Resource.DEVICE).count()
    context = {"active": active, "waiting": waiting, "worker": worker_is_alive()}
    return render(request, "_slot_strip.html", context)
