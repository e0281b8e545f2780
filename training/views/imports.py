"""Bringing in data sets and models: choose a source, look at it, import it, watch the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django import forms
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from mlxplatform.core.access import Role, allows, require
from mlxplatform.core.env import env
from mlxplatform.core.errors import DomainError, Invalid, NotFound
from registry.models import ModelVersion
from training import asks, rows, services, uploads
from training.engine.catalog.formats import FORMATS
from training.engine.config.imports import DOCS_FORMS
from training.engine.errors import Problem
from training.forms_data import (
    DocsForm,
    HubDataForm,
    ModelHubForm,
    ModelPathForm,
    ModelUploadForm,
    PathForm,
    SplitForm,
    UploadForm,
)
from training.models import Job, JobEvent
from training.states import JobState
from training.summary import summary
from training.views.data import rules

form_page = require_http_methods(["GET", "HEAD", "POST"])
SALT, DRAFT_SECONDS = "import draft", 24 * 3600
LOG_LINES = 12
DATA_SOURCES = {"upload": UploadForm, "server": PathForm, "hub": HubDataForm, "docs": DocsForm}
MODEL_SOURCES = {"upload": ModelUploadForm, "server": ModelPathForm, "hub": ModelHubForm}
SOURCE_WORDS = {
    "upload": ("Upload", "upload"), "server": ("Server folder", "file"), "hub": ("Hugging Face Hub", "external"),
    "docs": ("Demo set", "code"),
}  # fmt: skip


@form_page
def new_dataset(request: HttpRequest) -> HttpResponse:
    """Four sources. A file is looked at first; the hub and the demo set are imported at once."""
    require(request.user, Role.EDITOR)
    source = _source(request, DATA_SOURCES)
    wanted = {"docs_form": request.GET["docs_form"]} if "docs_form" in request.GET else {}
    form: Any = DATA_SOURCES[source](request.POST or None, request.FILES or None, initial=wanted)
    if request.method == "POST" and form.is_valid():
        try:
            if source == "upload":
                return _to_check({"upload": services.save_upload(request.user, form.cleaned_data["file"])})
            if source == "server":
                return _to_check({"path": str(_server_path(form.cleaned_data["path"].strip()))})
            wish = form.cleaned_data
            options = form.options() if isinstance(form, SplitForm) else {"valid_share": 0.1, "test_share": 0.1}
            job = services.create_dataset_import(
                request.user, form.source(), wish["name"], options, idempotency_key=wish["key"]
            )
            return redirect("import_job", job.pk)
        except Invalid as error:
            form.refuse(error)
    return render(request, "datasets/new.html", _new(form, source, DATA_SOURCES), status=422 if form.errors else 200)


@form_page
def check_dataset(request: HttpRequest) -> HttpResponse:
    """What is in the chosen file, and the button that imports it. The draft in the address is signed."""
    require(request.user, Role.EDITOR)
    draft = _draft(request)
    path = _draft_path(draft)
    form = SplitForm(request.POST or None, initial={"name": path.stem[:100]})
    if request.method == "POST" and form.is_valid():
        wish = form.cleaned_data
        try:
            job = services.create_dataset_import(
                request.user, {"kind": "file", **draft}, wish["name"] or path.stem, form.options(),
                idempotency_key=wish["key"],
            )  # fmt: skip
            return redirect("import_job", job.pk)
        except Invalid as error:
            form.refuse(error)
    context = {"form": form, "file": path.name, "bytes": _size(path), "draft": request.GET.get("draft", "")}
    return render(request, "datasets/check.html", context, status=422 if form.errors else 200)


@require_safe
def check_report(request: HttpRequest) -> HttpResponse:
    """The report on the draft's file; a fragment, since reading a large file takes a while."""
    require(request.user, Role.EDITOR)
    wanted = request.GET.get("data_format", "")
    try:
        report = asks.validate(_draft_path(_draft(request)), data_format=wanted if wanted in FORMATS else "")
    except DomainError as error:
        return render(request, "_error.html", {"error": error})
    samples = [{"line": sample.get("line"), "turns": rows.turns(sample.get("row"))} for sample in report["samples"]]
    return render(request, "datasets/_report.html", {"report": report, "rules": rules(report), "samples": samples})


@form_page
def new_model(request: HttpRequest) -> HttpResponse:
    """Three sources; each starts the import job."""
    require(request.user, Role.EDITOR)
    source = _source(request, MODEL_SOURCES)
    form: Any = MODEL_SOURCES[source](request.POST or None, request.FILES or None)
    if "base_version_id" in form.fields:
        form.fields["base_version_id"].choices = [("", "a whole model"), *_bases(request)]
    if request.method == "POST" and form.is_valid():
        try:
            wish = form.cleaned_data
            wanted = _uploaded_model(request, wish["file"]) if source == "upload" else form.source()
            job = services.create_model_import(
                request.user,
                wanted,
                wish["name"],
                base_version_id=wish.get("base_version_id") or None,
                idempotency_key=wish["key"],
            )
            return redirect("import_job", job.pk)
        except Invalid as error:
            form.refuse(error)
    return render(request, "models/import.html", _new(form, source, MODEL_SOURCES), status=422 if form.errors else 200)


def _bases(request: HttpRequest) -> list[tuple[str, str]]:
    """The models that an adapter may belong on, the newest first, as choices of a form."""
    rows = ModelVersion.objects.visible_to(request.user).filter(model__deleted_at=None)
    rows = rows.exclude(kind=ModelVersion.Kind.ADAPTER).select_related("model").order_by("-created_at")[:200]
    return [(str(version.pk), f"adapter for {version}") for version in rows]


@require_safe
def live(request: HttpRequest, job_id: Any) -> HttpResponse:
    """An import as it goes; leads to what it made when it has succeeded."""
    job = _import(request, job_id)
    target = _made(job)
    partial = bool(getattr(request, "htmx", False))
    if target and not partial:
        return redirect(target)
    problems = [_problem(p) for p in job.result.get("problems") or [] if isinstance(p, dict)]
    context = {
        "job": job,
        "summary": summary(job),
        "name": job.settings.get("name") or job.name,
        "is_data": job.kind == Job.Kind.IMPORT_DATASET,
        "log": list(JobEvent.objects.filter(job=job, kind="log").order_by("-seq")[:LOG_LINES])[::-1],
        "problems": problems,
        "can_skip": job.reason == "data.bad_rows" and not job.settings.get("skip_bad_rows"),
        "may_edit": allows(request.user, Role.EDITOR),
        "goes_on": job.state in {JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.STOPPING},
    }
    response = render(request, "datasets/_import.html" if partial else "datasets/import.html", context)
    if target:
        response["HX-Redirect"] = target
    return response


@require_POST
def cancel(request: HttpRequest, job_id: Any) -> HttpResponse:
    """Stop the import; nothing half-made is left."""
    services.request_stop(request.user, _import(request, job_id))
    return redirect("import_job", job_id)


@require_POST
def again(request: HttpRequest, job_id: Any) -> HttpResponse:
    """The same import once more, as a new job; with ``skip=1`` without the rows that have problems."""
    job = _import(request, job_id)
    asked = {key: value for key, value in job.settings.items() if key not in {"name", "source"}}
    if job.kind == Job.Kind.IMPORT_MODEL:
        base = job.model_version_id if job.settings.get("base") else None
        new = services.create_model_import(
            request.user, job.settings["source"], job.settings["name"], base_version_id=base
        )
    else:
        if request.POST.get("skip") == "1":
            asked["skip_bad_rows"] = True
        new = services.create_dataset_import(request.user, job.settings["source"], job.settings["name"], asked)
    return redirect("import_job", new.pk)


@require_safe
def lineage(request: HttpRequest, version_id: Any) -> HttpResponse:
    """For a model version's page: the job and the data it was made of, and the jobs that trained from it."""
    version = ModelVersion.objects.visible_to(request.user).filter(pk=version_id).first()
    if version is None:
        raise NotFound("model.unknown", "There is no such model version.", "Look at the list of models.")
    jobs = Job.objects.visible_to(request.user).present().select_related("dataset_version__dataset")
    maker = jobs.filter(pk=version.job_id).first() if version.job_id else None
    trained = jobs.filter(model_version=version, kind=Job.Kind.TRAIN).order_by("-number")
    return render(request, "models/_lineage.html", {"maker": maker, "trained": trained[:10], "count": trained.count()})


def _source(request: HttpRequest, sources: dict[str, Any]) -> str:
    wanted = request.GET.get("from", "")
    return wanted if wanted in sources else next(iter(sources))


def _new(form: forms.Form, source: str, sources: dict[str, Any]) -> dict[str, Any]:
    tabs = [
        {
            "url": f"?from={name}",
            "label": SOURCE_WORDS[name][0],
            "icon": SOURCE_WORDS[name][1],
            "current": name == source,
        }
        for name in sources
    ]
    return {
        "form": form,
        "source": source,
        "tabs": tabs,
        "roots": [str(root) for root in env().roots],
        "offline": env().offline,
        "max_upload": env().max_upload_mb,
        "formats": FORMATS.listed,
        "docs_forms": [(FORMATS[name], how) for name, how in DOCS_FORMS.items()],
    }


def _to_check(draft: dict[str, str]) -> HttpResponse:
    return redirect(f"{reverse('dataset_check')}?draft={signing.dumps(draft, salt=SALT, compress=True)}")


def _draft(request: HttpRequest) -> dict[str, str]:
    """The file that is being looked at: ``{"upload": id}`` or ``{"path": …}``, as :func:`new_dataset` signed it."""
    try:
        draft: dict[str, str] = signing.loads(request.GET.get("draft", ""), salt=SALT, max_age=DRAFT_SECONDS)
    except signing.BadSignature:
        raise NotFound(
            "draft.gone", "This address is older than a day or was changed.", "Choose the file again."
        ) from None
    return draft


def _draft_path(draft: dict[str, str]) -> Path:
    return uploads.find(draft["upload"]) if "upload" in draft else _server_path(draft["path"])


def _server_path(text: str) -> Path:
    found = uploads.server_path(text)
    if isinstance(found, Problem):
        raise Invalid.of([found])
    return found


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _uploaded_model(request: HttpRequest, file: Any) -> dict[str, Any]:
    if not str(file.name).lower().endswith(".gguf"):
        raise Invalid(
            "upload.extension", f"'{file.name}' is no GGUF file.", "Model folders are imported from the server."
        )
    return {"kind": "gguf", "upload": services.save_upload(request.user, file)}


def _import(request: HttpRequest, job_id: Any) -> Job:
    kinds = [Job.Kind.IMPORT_DATASET, Job.Kind.IMPORT_MODEL]
    job: Job | None = Job.objects.visible_to(request.user).present().filter(pk=job_id, kind__in=kinds).first()
    if job is None:
        raise NotFound("job.unknown", "There is no such import.", "Look for it in the list of jobs.")
    return job


def _made(job: Job) -> str:
    """The address of what a succeeded import made."""
    if job.state != JobState.SUCCEEDED:
        return ""
    if job.kind == Job.Kind.IMPORT_DATASET and job.result.get("dataset"):
        return reverse("dataset", args=[job.result["dataset"]])
    if job.kind == Job.Kind.IMPORT_MODEL and job.result.get("model_version"):
        return reverse("model_version", args=[job.result["model_version"]])
    return reverse("job", args=[job.pk])


def _problem(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem of the engine with its place: ``loc`` begins with file and line where it is about a row."""
    loc = list(problem.get("loc") or [])
    if len(loc) < 2 or not isinstance(loc[1], int):
        return {**problem, "line": None}
    place = f"{loc[0]}, line {loc[1]}: "
    return {**problem, "line": loc[1], "file": loc[0], "message": str(problem.get("message", "")).removeprefix(place)}
