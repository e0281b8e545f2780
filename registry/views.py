"""Pages of registered models and their versions."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, F, Max, OuterRef, Q, Subquery
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from mlxplatform.core.access import Role, allows, require
from mlxplatform.core.errors import Conflict, Invalid, NotFound
from registry import aliases, services
from registry.forms import ModelForm
from registry.models import Alias, ModelVersion, RegisteredModel

MOVES = 20  # of aliases that a page shows
PER_PAGE = 50
#: What the list can be sorted by: word in the address → column.
SORTS = {"name": "model__name", "new": "-created_at", "size": "-bytes"}
#: Final losses in the order in which one stands for the version; lower is better.
LOSSES = {
    "best_val_loss": "Best validation loss",
    "val_loss": "Validation loss",
    "test_loss": "Test loss",
    "first_val_loss": "Validation loss before",
    "first_test_loss": "Test loss before",
    "train_loss": "Training loss",
}
#: The same of trainings that are judged by rewards.
REWARDS = {
    "best_val_reward": "Best reward on held-out prompts",
    "val_reward": "Reward on held-out prompts",
    "test_reward": "Reward on test prompts",
    "first_val_reward": "Reward before",
    "first_test_reward": "Test reward before",
}
#: Kinds of sources in words.
KINDS = {
    "gguf": "GGUF file",
    "folder": "Model folder",
    "hub": "Hugging Face Hub",
    "wheel": "Python package",
    "training": "Training",
    "student": "Layers of another model",
}
#: Other figures of the training that made it.
COUNTS = {"step": "Steps", "best_step": "Best step", "trained_tokens": "Trained tokens"}


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file of a version; ``bytes`` is None when it is not there."""

    index: int
    name: str
    sha256: str
    bytes: int | None


def find_model(user: Any, model_id: Any, *, trashed: bool = False) -> RegisteredModel:
    """The model, if ``user`` may see it; NotFound otherwise."""
    model = RegisteredModel.objects.visible_to(user).filter(pk=model_id, deleted_at__isnull=not trashed).first()
    if model is None:
        raise NotFound("model.unknown", "There is no such model.", "It may be in the trash; look at the list.")
    found: RegisteredModel = model
    return found


def find_version(user: Any, version_id: Any) -> ModelVersion:
    """The version, if ``user`` may see it; NotFound otherwise."""
    rows = ModelVersion.objects.visible_to(user).select_related("model", "base__model")
    version = rows.filter(pk=version_id, model__deleted_at=None).first()
    if version is None:
        raise NotFound("model.unknown", "There is no such model version.", "Look at the list of models.")
    found: ModelVersion = version
    return found


@require_safe
def model_list(request: HttpRequest) -> HttpResponse:
    """Every model by its newest version. ``q`` searches names, ``kind`` filters, ``sort`` orders."""
    newest = ModelVersion.objects.filter(model=OuterRef("model")).order_by("-n").values("pk")[:1]
    rows = ModelVersion.objects.visible_to(request.user).filter(model__deleted_at=None, pk=Subquery(newest))
    has_any = rows.exists()
    words, kind = request.GET.get("q", "").strip()[:120], request.GET.get("kind", "")
    if words:
        rows = rows.filter(Q(model__name__icontains=words) | Q(model__description__icontains=words))
    if kind in ModelVersion.Kind.values:
        rows = rows.filter(kind=kind)
    sort = request.GET.get("sort", "new")
    rows = rows.select_related("model", "base__model").annotate(versions=Count("model__versions"))
    page = Paginator(rows.order_by(SORTS.get(sort, "-created_at"), "pk"), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "rows": [(row, best_figure(row)) for row in page],
        "q": words,
        "kind": kind,
        "kinds": ModelVersion.Kind.choices,
        "sort": sort,
        "has_any": has_any,
        "may_edit": allows(request.user, Role.EDITOR),
        "undo": _trashed(request),
        "import_url": _url("model_import"),
    }
    return render(request, "models/list.html", context)


@require_safe
def model_page(request: HttpRequest, model_id: Any) -> HttpResponse:
    """One model with all its versions, newest first."""
    model = find_model(request.user, model_id)
    return render(request, "models/model.html", _model_context(request, model, ModelForm(initial=_initial(model))))


@require_http_methods(["POST"])
def edit(request: HttpRequest, model_id: Any) -> HttpResponse:
    """Another name or description."""
    require(request.user, Role.EDITOR)
    model = find_model(request.user, model_id)
    form = ModelForm(request.POST)
    if form.is_valid():
        try:
            services.rename(request.user, model, form.cleaned_data["name"], form.cleaned_data["description"])
            return redirect("model", model.pk)
        except (Conflict, Invalid) as error:
            form.add_error("name", str(error))
            model.refresh_from_db()
    return render(request, "models/model.html", _model_context(request, model, form), status=422)


@require_POST
def delete(request: HttpRequest, model_id: Any) -> HttpResponse:
    """Into the trash; the list offers to undo it."""
    services.delete(request.user, find_model(request.user, model_id))
    return redirect(f"{reverse('models')}?trashed={model_id}")


@require_POST
def restore(request: HttpRequest, model_id: Any) -> HttpResponse:
    """Out of the trash."""
    services.restore(request.user, find_model(request.user, model_id, trashed=True))
    return redirect("model", model_id)


@require_POST
def alias_set(request: HttpRequest, model_id: Any) -> HttpResponse:
    """Point the alias ``name`` at version number ``version``."""
    model = find_model(request.user, model_id)
    number = request.POST.get("version", "")
    version = model.versions.filter(n=int(number)).first() if number.isdecimal() and len(number) < 10 else None
    if version is None:
        raise NotFound("model.unknown", f"{model} has no version '{number[:10]}'.", "Choose one of its versions.")
    aliases.set_alias(request.user, version, request.POST.get("name", "").strip())
    return redirect("model", model.pk)


@require_POST
def alias_remove(request: HttpRequest, model_id: Any, name: str) -> HttpResponse:
    """Take the alias away."""
    row = Alias.objects.filter(model=find_model(request.user, model_id), name=name).select_related("version").first()
    if row is None:
        raise NotFound("alias.unknown", f"The model has no alias '{name[:40]}'.", "Reload the page.")
    aliases.remove_alias(request.user, row)
    return redirect("model", model_id)


@require_POST
def alias_back(request: HttpRequest, model_id: Any, name: str) -> HttpResponse:
    """Undo the alias's last move, which the page has named."""
    move = request.POST.get("move", "")
    aliases.move_back(
        request.user, find_model(request.user, model_id), name, int(move) if move.isdecimal() and len(move) < 19 else 0
    )
    return redirect("model", model_id)


@require_safe
def version_page(request: HttpRequest, version_id: Any) -> HttpResponse:
    """One version: facts, files with hashes, lineage, how to load it."""
    version = find_version(request.user, version_id)
    files = file_rows(version)
    context = {
        "version": version,
        "model": version.model,
        "source": source_words(version.source),
        "figures": figures(version),
        "counts": counts(version),
        "files": files,
        "missing": [row.name for row in files if row.bytes is None],
        "derived": version.derived.filter(model__deleted_at=None).select_related("model").order_by("-created_at")[:20],
        "newest": version.model.versions.aggregate(n=Max("n"))["n"],
        "aliases": list(version.aliases.values_list("name", flat=True)),
        "usual": _offered(version),
        "evaluate_url": _url("evaluation_new", f"?model={version.pk}") if version.is_trainable else "",
        "evaluations_url": _url("model_evaluations", "", version.pk),
        "snippet": load_snippet(version),
        "may_edit": allows(request.user, Role.EDITOR),
        "train_url": _url("job_new", f"?model={version.pk}") if version.is_trainable else "",
        "lineage_url": _url("model_lineage", "", version.pk),
        "job_url": _url("job", "", version.job_id) if version.job_id else "",
        "pipeline_url": _url("pipeline_made", "", version.pk) if version.job_id else "",
    }
    return render(request, "models/version.html", context)


@require_safe
def download(request: HttpRequest, version_id: Any, index: int) -> HttpResponseBase:
    """One file of a version, by its place in the sorted list, never by a path."""
    version = find_version(request.user, version_id)
    names = sorted(version.files)
    if index >= len(names):
        raise NotFound("model.no_file", "The version has no such file.", "Choose one of its list.")
    path = version.folder / names[index]
    try:
        if not path.resolve(strict=True).is_relative_to(version.folder.resolve()):
            raise FileNotFoundError(names[index])
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(
            "model.file_gone", f"{names[index]} is not there any more.", "Import the model again."
        ) from error
    return FileResponse(os.fdopen(fd, "rb"), as_attachment=True, filename=names[index].split("/")[-1])


def figures(version: ModelVersion) -> list[tuple[str, Any]]:
    """The final rewards and losses with their words."""
    return [(label, version.metrics[name]) for name, label in (REWARDS | LOSSES).items() if name in version.metrics]


def counts(version: ModelVersion) -> list[tuple[str, Any]]:
    """How much it was trained, with words."""
    return [(label, version.metrics[name]) for name, label in COUNTS.items() if name in version.metrics]


def best_figure(version: ModelVersion) -> tuple[str, Any] | None:
    """The figure that stands for the version in a list."""
    return next(iter(figures(version)), None)


def file_rows(version: ModelVersion) -> list[FileRow]:
    """The files that the version should hold, with what is on the disk."""
    rows = []
    for index, name in enumerate(sorted(version.files)):
        try:
            size: int | None = (version.folder / name).stat(follow_symlinks=False).st_size
        except OSError:
            size = None
        rows.append(FileRow(index, name, str(version.files[name]), size))
    return rows


def load_snippet(version: ModelVersion) -> str:
    """Python that loads the version in stock mlx-lm."""
    folder, adapter = version.folder, ""
    if any(name.startswith("before.") for name in version.files):
        return (
            "# It was trained on top of another adapter, so mlx-lm would load only half of it.\n"
            "from training.engine.folders.places import Place\nfrom training.engine.machine import device\n"
            "from training.engine.tuning import fuse\n\n"
            f'place = Place(\n    model="{version.whole.folder}",\n    adapter="{version.folder}",\n)\n'
            'model = fuse.load_place(place, "auto", device.set_up(0)).loaded.model\n'
        )
    if version.kind == ModelVersion.Kind.ADAPTER and version.base is not None:
        folder, adapter = version.base.folder, f',\n    adapter_path="{version.folder}",'
    body = f'\n    "{folder}"{adapter}\n' if adapter else f'"{folder}"'
    return f"from mlx_lm import generate, load\n\nmodel, tokenizer = load({body})\n"


def source_words(source: dict[str, Any]) -> list[tuple[str, str]]:
    """Where a version came from, as names and values."""
    labels = {
        "kind": "Source", "repo_id": "Hub id", "revision": "Revision", "commit": "Commit", "file": "File",
        "name": "Name", "sha256": "sha256", "path": "Path", "start": "Began with",
        "made_from": "Made from", "layers": "Layers",
    }  # fmt: skip
    words = {**source, "kind": KINDS.get(str(source.get("kind")), source.get("kind"))}
    return [(labels[key], str(words[key])) for key in labels if words.get(key)]


def _model_context(request: HttpRequest, model: RegisteredModel, form: ModelForm) -> dict[str, Any]:
    versions = list(model.versions.select_related("base__model").order_by(F("n").desc()))
    pointing = list(model.aliases.select_related("version"))
    tags: dict[Any, list[str]] = {}
    for alias in pointing:
        tags.setdefault(alias.version_id, []).append(alias.name)
    history = list(islice(aliases.moves(model), MOVES))
    return {
        "model": model,
        "form": form,
        "rows": [(version, best_figure(version), tags.get(version.pk, [])) for version in versions],
        "aliases": [(alias, next(iter(aliases.moves(model, alias.name)), None)) for alias in pointing],
        "gone": _gone(history, {alias.name for alias in pointing}),
        "moves": history,
        "names": sorted({*aliases.USUAL, *(alias.name for alias in pointing)}),
        "may_edit": allows(request.user, Role.EDITOR),
    }


def _gone(history: list[aliases.Move], there: set[str]) -> list[aliases.Move]:
    """The removals that can be undone: of aliases that point nowhere now, each one's last move."""
    last: dict[str, aliases.Move] = {}
    for move in history:
        last.setdefault(move.alias, move)
    return [move for name, move in last.items() if name not in there and move.before is not None]


def _offered(version: ModelVersion) -> list[tuple[str, ModelVersion | None]]:
    """The usual aliases that this version has not, with where each points now."""
    there = {alias.name: alias.version for alias in version.model.aliases.select_related("version__model")}
    return [(name, there.get(name)) for name in aliases.USUAL if there.get(name) != version]


def _initial(model: RegisteredModel) -> dict[str, str]:
    return {"name": model.name, "description": model.description}


def _trashed(request: HttpRequest) -> RegisteredModel | None:
    """The model that was just thrown away, so that the page can offer to undo it."""
    wanted = request.GET.get("trashed", "")
    try:
        return find_model(request.user, uuid.UUID(wanted), trashed=True) if wanted else None
    except (NotFound, ValueError):
        return None


def _url(name: str, tail: str = "", *args: Any) -> str:
    """The address of an upper room's page, known by name only; nothing where that room is not installed."""
    try:
        return reverse(name, args=args) + tail
    except NoReverseMatch:
        return ""
