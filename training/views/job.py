"""The page of one job: its head, its tabs, and the buttons that ask something of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from mlxplatform.core.access import Role, allows, require
from mlxplatform.core.errors import NotFound
from registry.models import ModelVersion
from training import figures, services
from training.engine.catalog.charts import Drawn, drawn
from training.failures import Failure, explain
from training.goals import method_of
from training.models import Attempt, Checkpoint, DatasetVersion, Evaluation, Job, Metric, MetricPoint
from training.origins import resolved
from training.states import AttemptState, JobState
from training.summary import Summary, summary
from training.views.jobs import back
from training.views.series import visible_job

TABS = {
    "overview": "Overview",
    "charts": "Charts",
    "samples": "Samples",
    "logs": "Log",
    "checkpoints": "Checkpoints",
    "config": "Configuration",
}
IMPORT_TABS = ("overview", "logs", "config")
EVALUATION_TABS = ("overview", "samples", "logs", "config")
ACTIONS = {
    "stop": services.request_stop,
    "pause": services.request_pause,
    "kill": services.request_kill,
    "resume": services.resume,
    "restore": services.restore,
}
NEWEST_SAMPLES = 3


def job(request: HttpRequest, job_id: UUID, tab: str = "overview") -> HttpResponse:
    """One tab of the job's page."""
    row = visible_job(request.user, job_id)
    about = summary(row)
    if tab not in _names(about):
        raise NotFound("job.tab", f"A job has no page '{tab[:40]}'.", "Choose one of the tabs.")
    context = {**head_context(request, about), "tab": tab, "tabs": _tabs(about, tab), **BODIES[tab](about)}
    if tab == "logs":
        context |= _shown_attempt(request, context["attempts"])
    return render(request, f"training/job_{tab}.html", context)


def head(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """State, progress, figures and buttons, as the page's head draws them."""
    return render(request, "training/_job_head.html", head_context(request, summary(visible_job(request.user, job_id))))


def head_context(request: HttpRequest, about: Summary) -> dict[str, Any]:
    """What the head of the page shows."""
    row = about.job
    ahead = 0
    if row.state == JobState.QUEUED:
        line = [job.pk for job in Job.objects.waiting().filter(resource=row.resource)]
        ahead = line.index(row.pk) if row.pk in line else 0
        ahead += Job.objects.active().filter(resource=row.resource).count()
    made = ModelVersion.objects.visible_to(request.user).filter(job_id=row.pk).select_related("model").first()
    made_data = DatasetVersion.objects.visible_to(request.user).filter(job=row).select_related("dataset").first()
    return {
        "s": about,
        "job": row,
        "attempt": row.attempt,
        "ahead": ahead,
        "failure": explain(row) if row.state == JobState.FAILED else None,
        "made": made,
        "made_data": made_data,
        "may_edit": allows(request.user, Role.EDITOR),
    }


def _tabs(about: Summary, tab: str) -> list[dict[str, Any]]:
    return [
        {
            "url": reverse("job", args=[about.job.pk]) + ("" if name == "overview" else f"{name}/"),
            "label": TABS[name],
            "current": name == tab,
        }
        for name in _names(about)
    ]


def _names(about: Summary) -> Iterable[str]:
    """The tabs of a job of this kind."""
    if about.is_training:
        return TABS
    return EVALUATION_TABS if about.is_evaluation else IMPORT_TABS


def _overview(about: Summary) -> dict[str, Any]:
    job = about.job
    return {
        "grid": _sample_grid(job)[:NEWEST_SAMPLES],
        "charts": _front(_drawn(about)) if about.is_training else [],
        "checkpoints": _valued(about, list(job.checkpoints.filter(removed_at=None)[:4])),
        "events": _feed(job),
        "has_points": bool(about.last),
        "figures": figures.of_job(job, Evaluation.objects.filter(job__deleted_at=None)) if about.is_evaluation else [],
    }


def _feed(job: Job) -> list[dict[str, Any]]:
    """The newest events worth a line: moves, checkpoints and warnings, the newest first."""
    lines: list[dict[str, Any]] = []
    for event in job.events.filter(kind__in=["state", "log", "truncate"]).order_by("-seq")[:60]:
        if text := feed_line(event.kind, event.payload):
            lines.append({"at": event.at, "text": text})
    return lines[:12]


def feed_line(kind: str, payload: dict[str, Any]) -> str:
    """An event in words; nothing for one that is of no interest here."""
    if kind == "truncate":
        return f"Continued from step {payload.get('step', 0):,}."
    if kind == "log":
        return str(payload.get("message", "")) if payload.get("level") in {"warning", "error"} else ""
    if "checkpoint" in payload:
        return f"Checkpoint at step {payload['checkpoint'].get('step', 0):,}."
    if "attempt" in payload:
        return f"Attempt {payload['attempt']}: {payload.get('attempt_state', '')}."
    if "state" in payload:
        return " ".join(filter(None, [f"{str(payload['state']).capitalize()}.", str(payload.get("message", ""))]))
    return ""


def _samples(about: Summary) -> dict[str, Any]:
    return {"grid": _sample_grid(about.job)}


def _sample_grid(job: Job) -> list[dict[str, Any]]:
    """A row for each prompt: the answer before training, the one in the data, the newest, and those between."""
    rows: dict[int, dict[str, Any]] = {}
    for sample in job.samples.order_by("index", "step"):
        sample.text = sample.text.strip()
        row = rows.setdefault(sample.index, {"prompt": sample.prompt, "reference": "", "before": None, "all": []})
        row["reference"] = sample.reference or row["reference"]
        if sample.step == 0:
            row["before"] = sample
        row["all"].append(sample)
    for row in rows.values():
        later = [sample for sample in row["all"] if sample.step > 0]
        row["newest"] = later[-1] if later else None
        row["between"] = later[:-1][::-1]
    return list(rows.values())


def _checkpoints(about: Summary) -> dict[str, Any]:
    rows = list(about.job.checkpoints.all())
    kept = [row for row in rows if row.removed_at is None]
    return {
        "checkpoints": _valued(about, kept),
        "removed": len(rows) - len(kept),
        "disk": sum(row.bytes for row in kept),
    }


def _log(about: Summary) -> dict[str, Any]:
    return {"attempts": list(about.job.attempts.order_by("-n"))}


def _shown_attempt(request: HttpRequest, attempts: list[Attempt]) -> dict[str, Any]:
    """Which attempt's log is drawn: the one in the address, else the newest."""
    wanted = request.GET.get("attempt", "")
    shown = next((row for row in attempts if str(row.n) == wanted), attempts[0] if attempts else None)
    if shown is None:
        return {}
    is_live = shown.state in {AttemptState.STARTING, AttemptState.RUNNING}
    return {"shown": shown, "shown_query": f"?attempt={shown.n}", "shown_live": is_live}


def _config(about: Summary) -> dict[str, Any]:
    return {"groups": resolved(about.job), "attempts": list(about.job.attempts.order_by("-n"))}


def _charts(about: Summary) -> dict[str, Any]:
    return {"charts": _drawn(about)}


def _drawn(about: Summary) -> list[Drawn]:
    """The charts of the job's method, and of whatever else it has reported."""
    names = Metric.objects.filter(job=about.job).values_list("name", flat=True)
    return drawn(method_of(about.job), about.goal, names)


def _front(charts: list[Drawn]) -> list[Drawn]:
    """What the overview shows: the goal, and the first chart that is the method's own."""
    own = [one for one in charts[1:] if one.chart.methods and one.chart.name != "perplexity"]
    return [*charts[:1], *own[:1]]


def _valued(about: Summary, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Checkpoints with the held-out ``value`` that the job is judged by."""
    if about.is_loss:
        values = {row.step: row.val_loss for row in checkpoints}
    else:
        points = MetricPoint.objects.filter(metric__job=about.job, metric__name=f"val_{about.goal}")
        steps = [row.step for row in checkpoints]
        values = dict(points.filter(step__in=steps).values_list("step", "value"))
    for row in checkpoints:
        row.value = values.get(row.step)  # type: ignore[attr-defined]  # for the template
    return checkpoints


BODIES = {
    "overview": _overview,
    "charts": _charts,
    "samples": _samples,
    "logs": _log,
    "checkpoints": _checkpoints,
    "config": _config,
}


@require_POST
def act(request: HttpRequest, job_id: UUID, action: str) -> HttpResponse:
    """Stop, pause, kill, resume or restore the job."""
    row = visible_job(request.user, job_id)
    if action not in ACTIONS:
        raise NotFound("job.action", f"There is no action '{action[:40]}'.", "Use the buttons of the page.")
    row = ACTIONS[action](request.user, row)
    if getattr(request, "htmx", False):
        return head(request, job_id)
    return redirect(back(request, reverse("job", args=[row.pk])))


@require_POST
def rename(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Give the job another name."""
    require(request.user, Role.EDITOR)
    row = services.rename(request.user, visible_job(request.user, job_id), request.POST.get("name", ""))
    return redirect("job", row.pk)


@require_POST
def delete(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Put the job into the trash; the list then offers to undo it."""
    row = services.delete(request.user, visible_job(request.user, job_id))
    return redirect(f"{reverse('jobs')}?trashed={row.pk}")


__all__ = ["Failure", "act", "delete", "head", "job", "rename"]
