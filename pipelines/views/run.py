"""The page of a run: where it stands, why, and the buttons that decide something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import yaml
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from mlxplatform.core.access import Role, allows
from mlxplatform.core.errors import Conflict, NotFound
from pipelines import services, showing, timeline
from pipelines.models import PipelineRun, RunEvent, StepRun
from pipelines.states import StepState
from pipelines.views.finding import visible_run, visible_step
from registry.models import ModelVersion
from training.alive import worker_is_alive

EVENTS = 40
ACTIONS: dict[str, Callable[[Any, PipelineRun], PipelineRun]] = {
    "cancel": services.cancel,
    "pause": services.pause,
    "resume": services.resume,
}
ANSWERS = {"approve": services.approve, "reject": services.reject}


@require_safe
def run(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """The whole page; ``?step=NAME`` opens that step."""
    return render(request, "pipelines/run.html", _context(request, run_id))


@require_safe
def live(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """The part of the page that changes while the run goes on."""
    return render(request, "pipelines/_run.html", _context(request, run_id))


def _context(request: HttpRequest, run_id: UUID) -> dict[str, Any]:
    row = visible_run(request.user, run_id)
    story = showing.story(row)
    asked = request.GET.get("step", "")
    chosen = story.chosen(asked)
    drawn = story.picture()
    return {
        "run": row,
        "pipeline": row.version.pipeline,
        "story": story,
        "drawn": drawn,
        "columns": [[(place, story.steps[place.name]) for place in column] for column in drawn.columns],
        "lines": story.lines(drawn),
        "timeline": story.timeline(),
        "ticks": timeline.ticks(story.seconds),
        "given": showing.given(story, request.user),
        "events": _told(story, row.events.all()),
        "c": chosen,
        "chosen": _chosen(story, chosen, request.user),
        "asked": asked if asked in story.steps else "",
        "may_edit": allows(request.user, Role.EDITOR),
        "no_worker": not row.has_ended and not worker_is_alive(),
    }


def _chosen(story: showing.Story, shown: showing.Shown, user: Any) -> dict[str, Any]:
    """What the drawer shows of the chosen step."""
    settings = shown.row.identity.get("settings") or dict(shown.step.settings)
    return {
        "used": showing.used(story, shown, user),
        "made": showing.made(shown, user),
        "figures": list(shown.figures()),
        "comparisons": [_compared(one) for one in shown.row.details.get("comparisons", [])],
        "problems": shown.row.details.get("problems", []),
        "settings": yaml.safe_dump(settings, sort_keys=False, allow_unicode=True) if settings else "",
        "events": _told(story, story.run.events.filter(step=shown.name)),
        "evidence": showing.evidence(story, shown, user) if shown.row.kind == "approve" else None,
        "waits_for": [story.steps[name].title for name, _ in story.definition.needs(shown.step)],
        "may_retry": shown.row.state in (StepState.FAILED, StepState.CANCELLED) and story.run.state != "paused",
    }


def _told(story: showing.Story, events: QuerySet[RunEvent]) -> list[tuple[str, RunEvent]]:
    """What happened, the newest first, each with the name of the step that it happened to."""
    titles = {name: shown.title for name, shown in story.steps.items()}
    return [(titles.get(event.step, "The run"), event) for event in events.order_by("-id")[:EVENTS]]


def _compared(one: dict[str, Any]) -> dict[str, Any]:
    """A comparison of a gate with its margin, to four digits as the gate itself says it."""
    figures = {"left": one["left"], "right": one["right"], "margin": abs(one["left"] - one["right"])}
    return {**one, **{name: f"{value:.4g}" for name, value in figures.items()}}


@require_POST
def act(request: HttpRequest, run_id: UUID, action: str) -> HttpResponse:
    """Cancel, pause or resume the run."""
    row = visible_run(request.user, run_id)
    if action not in ACTIONS:
        raise NotFound("run.action", f"There is no action '{action[:40]}'.", "Use the buttons of the page.")
    return _after(request, row, "", lambda: ACTIONS[action](request.user, row))


@require_POST
def decide(request: HttpRequest, run_id: UUID, name: str) -> HttpResponse:
    """Approve or reject what the page showed; its digest says what that was."""
    step = visible_step(request.user, run_id, name)
    answer = ANSWERS.get(request.POST.get("answer", ""))
    if answer is None:
        raise NotFound("run.answer", "Neither yes nor no was said.", "Use the buttons of the page.")
    digest, note = request.POST.get("digest", ""), request.POST.get("note", "")
    return _after(request, step.run, name, lambda: answer(request.user, step, digest, note))


@require_POST
def retry(request: HttpRequest, run_id: UUID, name: str) -> HttpResponse:
    """Try a step again, and all that hung on it."""
    step = visible_step(request.user, run_id, name)
    return _after(request, step.run, name, lambda: services.retry(request.user, step))


def _after(request: HttpRequest, row: PipelineRun, name: str, act: Callable[[], object]) -> HttpResponse:
    """Do it, and go back to the run's page; what came too late is said there."""
    try:
        act()
    except Conflict as error:
        messages.error(request, str(error))
    return redirect(reverse("pipeline_run", args=[row.pk]) + (f"?step={name}" if name else ""))


@require_safe
def made_by(request: HttpRequest, version_id: UUID) -> HttpResponse:
    """For a model version's page: the run and the step that made it, or nothing."""
    version = ModelVersion.objects.visible_to(request.user).filter(pk=version_id).first()
    step = None
    if version is not None and version.job_id is not None:
        rows = StepRun.objects.filter(job_id=version.job_id, reused=None)
        step = rows.select_related("run__version__pipeline").order_by("run__number").first()
    return render(request, "pipelines/_made_by.html", {"step": step})
