"""Pages of data sets: the list, and of one set its rows, report, tokens, what is trained, and who used it."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, OuterRef, Q, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from mlxplatform.core.access import Role, allows
from mlxplatform.core.errors import Invalid, NotFound
from training import datasets, rows
from training.engine.catalog.formats import FORMATS
from training.engine.config.imports import DOCS_FORMS
from training.forms_data import NameForm
from training.models import Dataset, DatasetVersion, Job
from training.summary import summaries

PER_PAGE = 50
ROWS_PER_PAGE = 20
SORTS = {"name": "dataset__name", "new": "-created_at", "rows": "-rows_train"}
TABS = (("dataset", "Rows"), ("dataset_report", "Report"), ("dataset_tokens", "Tokens"),
        ("dataset_trained", "What is trained"), ("dataset_used", "Used by"))  # fmt: skip


def find(user: Any, dataset_id: Any, *, trashed: bool = False) -> Dataset:
    """The data set, if ``user`` may see it; NotFound otherwise."""
    found: Dataset | None = (
        Dataset.objects.visible_to(user).filter(pk=dataset_id, deleted_at__isnull=not trashed).first()
    )
    if found is None:
        raise NotFound("dataset.unknown", "There is no such data set.", "It may be in the trash; look at the list.")
    return found


def page_of(request: HttpRequest, dataset_id: Any, tab: str, **more: Any) -> dict[str, Any]:
    """What every tab needs: the data set, the version that ``?v=`` names (the newest otherwise), the tabs."""
    dataset = find(request.user, dataset_id)
    versions = list(dataset.versions.order_by("-n"))
    wanted = request.GET.get("v", "")
    version = next((v for v in versions if str(v.n) == wanted), versions[0] if versions else None)
    if version is None or (wanted and str(version.n) != wanted):
        which = f"no version {wanted[:9]}" if wanted else "no version yet"
        raise NotFound("dataset.no_version", f"{dataset} has {which}.", "Look at the list of data sets.")
    tail = f"?v={version.n}" if version is not versions[0] else ""
    return {
        "dataset": dataset,
        "version": version,
        "versions": versions,
        "newest": version is versions[0],
        "format": FORMATS[version.data_format].label if version.data_format in FORMATS else version.data_format,
        "family": FORMATS[version.data_format].family if version.data_format in FORMATS else "sft",
        "tabs": [{"url": reverse(n, args=[dataset.pk]) + tail, "label": w, "current": n == tab} for n, w in TABS],
        "splits": rows.counts(version),
        "may_edit": allows(request.user, Role.EDITOR),
        "form": NameForm(initial={"name": dataset.name}),
        **more,
    }


@require_safe
def dataset_list(request: HttpRequest) -> HttpResponse:
    """Every data set by its newest version. ``q`` searches names, ``sort`` orders."""
    newest = DatasetVersion.objects.filter(dataset=OuterRef("dataset")).order_by("-n").values("pk")[:1]
    found = DatasetVersion.objects.visible_to(request.user).filter(dataset__deleted_at=None, pk=Subquery(newest))
    has_any = found.exists()
    words, sort = request.GET.get("q", "").strip()[:120], request.GET.get("sort", "new")
    if words:
        found = found.filter(dataset__name__icontains=words)
    jobs = Count("dataset__versions__jobs", filter=Q(dataset__versions__jobs__deleted_at=None), distinct=True)
    found = found.select_related("dataset").annotate(used=jobs).order_by(SORTS.get(sort, "-created_at"), "pk")
    running = Job.objects.visible_to(request.user).present().filter(kind=Job.Kind.IMPORT_DATASET)
    context = {
        "page": Paginator(found, PER_PAGE).get_page(request.GET.get("page")),
        "formats": {row.name: row.label for row in FORMATS},
        "q": words,
        "sort": sort,
        "has_any": has_any,
        "may_edit": allows(request.user, Role.EDITOR),
        "undo": _trashed(request),
        "imports": running.filter(state__in=["queued", "starting", "running"]).order_by("number")[:10],
    }
    return render(request, "datasets/list.html", context)


@require_safe
def rows_tab(request: HttpRequest, dataset_id: Any) -> HttpResponse:
    """Rows as they will be trained on: ``split``, ``from`` (row number), or one whole ``row``."""
    context = page_of(request, dataset_id, "dataset")
    version, splits = context["version"], context["splits"]
    split = request.GET.get("split", "")
    split = split if split in splits else next(iter(splits), "train")
    total = splits.get(split, 0)
    one = _number(request.GET.get("row"), 0, total)
    first = one or _number(request.GET.get("from"), 1, max(1, total))
    shown = rows.read(version, split, first, 1 if one else ROWS_PER_PAGE, rows.WHOLE if one else rows.TEXT)
    step = 1 if one else ROWS_PER_PAGE
    context |= {
        "split": split,
        "total": total,
        "rows": shown,
        "one": one,
        "first": first,
        "last": shown[-1].n if shown else first,
        "before": max(1, first - step) if first > 1 else 0,
        "after": first + step if first + step <= total else 0,
    }
    return render(request, "datasets/rows.html", context)


@require_safe
def report_tab(request: HttpRequest, dataset_id: Any) -> HttpResponse:
    """What the validation said at the import."""
    context = page_of(request, dataset_id, "dataset_report")
    version = context["version"]
    how = DOCS_FORMS.get(version.source.get("form", "chat")) if version.source.get("kind") == "python_docs" else ""
    words = {"source": source_words(version.source), "how": how}
    context |= {"report": version.report, "rules": rules(version.report), **words}
    return render(request, "datasets/report.html", context)


@require_safe
def used_tab(request: HttpRequest, dataset_id: Any) -> HttpResponse:
    """Jobs that trained on any version."""
    context = page_of(request, dataset_id, "dataset_used")
    jobs = Job.objects.visible_to(request.user).present().filter(dataset_version__dataset=context["dataset"])
    page = Paginator(
        jobs.select_related("model_version__model", "dataset_version").order_by("-number"), PER_PAGE
    ).get_page(request.GET.get("page"))
    return render(request, "datasets/used.html", {**context, "page": page, "jobs": summaries(page.object_list)})


@require_POST
def rename(request: HttpRequest, dataset_id: Any) -> HttpResponse:
    """Another name."""
    form = NameForm(request.POST)
    if not form.is_valid():
        raise Invalid("name.length", "The name has 0 or more than 120 characters.", "Give it 1 to 120.")
    datasets.rename(request.user, find(request.user, dataset_id), form.cleaned_data["name"])
    return redirect("dataset", dataset_id)


@require_POST
def delete(request: HttpRequest, dataset_id: Any) -> HttpResponse:
    """Into the trash; the list offers to undo it."""
    datasets.delete(request.user, find(request.user, dataset_id))
    return redirect(f"{reverse('datasets')}?trashed={dataset_id}")


@require_POST
def restore(request: HttpRequest, dataset_id: Any) -> HttpResponse:
    """Out of the trash."""
    datasets.restore(request.user, find(request.user, dataset_id, trashed=True))
    return redirect("dataset", dataset_id)


def rules(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The report's problems by rule: code, level, how many, the first ones with their lines."""
    found = []
    for level, counted in (("error", report.get("counts") or {}), ("warning", report.get("warnings") or {})):
        for code, n in sorted(counted.items(), key=lambda item: -item[1]):
            first = [p for p in report.get("problems") or [] if p.get("code") == code and p.get("level") == level]
            found.append({"code": code, "level": level, "count": n, "first": first, "rest": max(0, n - len(first))})
    return found


def source_words(source: dict[str, Any]) -> str:
    """Where a version came from, in a line; of a path only the last part."""
    kind = source.get("kind")
    if kind == "python_docs":
        form = source.get("form", "chat")
        return "Documentation of this machine's Python" + (f", as {form}" if form != "chat" else "")
    if kind == "hub":
        at = source.get("commit") or source.get("revision") or ""
        return f"Hugging Face Hub: {source.get('repo_id', '')} @ {str(at)[:12]}"
    if kind == "generated":
        return f"Questions of {source.get('dataset', '')}, answered by {source.get('model', '')}"
    return f"File: {str(source.get('path', '')).rstrip('/').split('/')[-1]}"


def _number(text: str | None, default: int, most: int) -> int:
    """A whole number from an address, held between 1 and ``most``; ``default`` where there is none."""
    try:
        return max(1, min(int(text or ""), most))
    except ValueError:
        return default


def _trashed(request: HttpRequest) -> Dataset | None:
    """The data set that was just thrown away, so that the page can offer to undo it."""
    try:
        return find(request.user, uuid.UUID(request.GET.get("trashed", "")), trashed=True)
    except (NotFound, ValueError):
        return None
