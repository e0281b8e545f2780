"""The editor of a definition: a form with a fold for each step, or YAML. Both send the same definition."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import yaml
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid
from pipelines import checking, files, services
from pipelines.catalog import STEP_KINDS
from pipelines.definition import Definition
from pipelines.drafts import INPUT_TYPES, Draft, Problems, blank
from pipelines.models import Pipeline
from pipelines.views.finding import visible_pipeline
from training.engine.errors import Problem

FORM, YAML = "form", "yaml"
SAVE, CHECK = "save", "check"


@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """A new pipeline; ``?template=NAME`` begins with a template's steps."""
    require(request.user, Role.EDITOR)
    name = request.GET.get("template", "")
    return _editor(request, None, services.template_definition(name) if name else None)


@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, pipeline_id: UUID) -> HttpResponse:
    """Another version of a pipeline."""
    require(request.user, Role.EDITOR)
    row = visible_pipeline(request.user, pipeline_id)
    return _editor(request, row, row.newest.definition)


def _editor(request: HttpRequest, row: Pipeline | None, definition: Definition | None) -> HttpResponse:
    if request.method != "POST":
        if request.GET.get("view") == YAML and definition is not None:
            return _as_yaml(request, row, files.dump(definition))
        return _as_form(request, row, Draft.of(definition) if definition else blank())
    if request.POST.get("view") == YAML:
        return _posted_yaml(request, row)
    return _posted_form(request, row)


def _posted_yaml(request: HttpRequest, row: Pipeline | None) -> HttpResponse:
    text, action = request.POST.get("yaml", "").replace("\r\n", "\n"), request.POST.get("action", SAVE)
    try:
        definition, problems = checking.read(files.load(text))
    except Invalid as error:
        definition, problems = None, error.problems
    if action == FORM and definition is not None:
        return _as_form(request, row, Draft.of(definition), problems)
    if action == SAVE and definition is not None and not problems:
        return _saved(request, row, definition)
    return _as_yaml(request, row, text, problems, is_right=action == CHECK and not problems)


def _posted_form(request: HttpRequest, row: Pipeline | None) -> HttpResponse:
    draft, action = Draft.posted(request.POST), request.POST.get("action", SAVE)
    if action not in (SAVE, CHECK, YAML):
        return _as_form(request, row, draft, opened=draft.act(action))
    raw, problems = draft.raw()
    definition, more = checking.read(raw)
    problems = problems or more
    if action == YAML:
        text = files.dump(definition) if definition and not problems else _dumped(raw)
        return _as_yaml(request, row, text, problems)
    if action == SAVE and definition is not None and not problems:
        return _saved(request, row, definition)
    return _as_form(request, row, draft, problems, is_right=not problems)


def _dumped(raw: dict[str, Any]) -> str:
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=100)


def _saved(request: HttpRequest, row: Pipeline | None, definition: Definition) -> HttpResponse:
    if row is None:
        row = services.create(request.user, definition)
        messages.success(request, "Saved.")
    else:
        before = row.newest.n
        version = services.change(request.user, row, definition)
        text = f"Saved as version {version.n}." if version.n != before else "Nothing has changed."
        messages.success(request, text)
    return redirect("pipeline", row.pk)


def _as_yaml(
    request: HttpRequest, row: Pipeline | None, text: str, problems: Problems | None = None, *, is_right: bool = False
) -> HttpResponse:
    problems = problems or []
    lines = files.lines(text, [problem.loc for problem in problems])
    listed = [
        _listed(problem, f"Line {line}" if line and problem.loc else "", "f-yaml")
        for problem, line in zip(problems, lines, strict=True)
    ]
    context = {"pipeline": row, "view": YAML, "yaml": text, "problems": listed, "is_right": is_right}
    return render(request, "pipelines/edit.html", context, status=422 if listed else 200)


def _as_form(
    request: HttpRequest,
    row: Pipeline | None,
    draft: Draft,
    problems: Problems | None = None,
    *,
    is_right: bool = False,
    opened: int | None = None,
) -> HttpResponse:
    problems = problems or []
    context = {
        "pipeline": row,
        "view": FORM,
        "draft": draft,
        "steps": [_step(draft, n, problems, opened=opened) for n in range(len(draft.steps))],
        "inputs": [_input(draft, n, problems) for n in range(len(draft.inputs))],
        "kinds": [(kind.name, kind.label, kind.text) for kind in STEP_KINDS],
        "types": list(INPUT_TYPES.items()),
        "problems": [_listed(problem, *_place_in_form(draft, problem)) for problem in problems],
        "at": {name: _of(problems, (name,)) for name in ("name", "description", "steps")},
        "is_right": is_right,
    }
    return render(request, "pipelines/edit.html", context, status=422 if problems else 200)


def _step(draft: Draft, n: int, problems: Problems, *, opened: int | None) -> dict[str, Any]:
    step = draft.steps[n]
    mine = [problem for problem in problems if problem.loc[:2] == ("steps", n)]
    ports = draft.ports(n)
    for port in ports:
        port["problems"] = _of(problems, ("steps", n, "uses", port["name"]))
    shown = {problem for port in ports for problem in port["problems"]}
    fields = {name: _of(problems, ("steps", n, name)) for name in ("name", "kind", "label", "settings", "after")}
    fields["figures"] = [problem for problem in _of(problems, ("steps", n, "uses")) if problem not in shown]
    known = step.kind in STEP_KINDS
    return {
        "n": n,
        "id": f"s{n}",
        "draft": step,
        "ports": ports,
        "at": fields,
        "figures": draft.figures(n),
        "takes_figures": bool((known and STEP_KINDS[step.kind].takes_figures) or step.figures or fields["figures"]),
        "kind": STEP_KINDS[step.kind].label if known else step.kind,
        "is_known": known,
        "is_open": bool(mine) or opened == n,
        "wrong": len(mine),
        "is_last": n == len(draft.steps) - 1,
        "rows": max(2, step.settings.count("\n") + 2),
    }


def _input(draft: Draft, n: int, problems: Problems) -> dict[str, Any]:
    one = draft.inputs[n]
    mine = _of(problems, ("inputs", one.name))
    return {"n": n, "id": f"i{n}", "draft": one, "problems": mine, "is_open": bool(mine)}


def _of(problems: Problems, loc: tuple[str | int, ...]) -> Problems:
    return [problem for problem in problems if problem.loc[: len(loc)] == loc]


def _place_in_form(draft: Draft, problem: Problem) -> tuple[str, str]:
    """(words, id of the control) for a problem of the form."""
    loc = problem.loc
    if len(loc) > 1 and loc[0] == "steps" and isinstance(loc[1], int) and loc[1] < len(draft.steps):
        n = loc[1]
        named = {port["name"] for port in draft.ports(n)}
        part = str(loc[2]) if len(loc) > 2 else "name"
        if part == "uses":
            part = f"uses-{loc[3]}" if len(loc) > 3 and loc[3] in named else "figures"
        return f"Step {n + 1}, {draft.steps[n].name or 'without a name'}", f"s{n}-{part}"
    if len(loc) > 1 and loc[0] == "inputs":
        n = next((n for n, one in enumerate(draft.inputs) if one.name == loc[1]), 0)
        return f"Input {loc[1] or 'without a name'}", f"i{n}-name"
    return ("", f"f-{loc[0]}") if loc and loc[0] in ("name", "description") else ("", "")


def _listed(problem: Problem, place: str, control: str = "") -> dict[str, str]:
    """A row of the list of problems."""
    path = ".".join(map(str, problem.loc))
    message = problem.message.removeprefix(f"{path}: ")
    return {
        "id": control if place or control != "f-yaml" else "",
        "label": place or path,
        "message": message[:1].upper() + message[1:],
        "hint": problem.hint,
    }
