"""The two tabs of a data set that need a tokenizer: how long the rows are, and what of them is trained."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from mlxplatform.core.errors import DomainError
from registry.models import ModelVersion
from training import asks
from training.models import DatasetVersion
from training.views.data import page_of

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
TRAIN_ON = (("assistant", "Every answer"), ("last", "The last answer"), ("all", "Everything"))
PICKS = {"longest": "Longest", "most_masked": "Most masked"}
#: Edges of the histogram that have room for their number below.
LABELLED = {16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192}


@dataclass(frozen=True, slots=True)
class Choice:
    """With which model, cut at which length and trained on what; stands in the address."""

    model: ModelVersion | None
    models: list[ModelVersion]
    split: str
    length: int
    train_on: str

    @property
    def query(self) -> str:
        """The choice as it stands in an address."""
        values = {"split": self.split, "length": self.length, "train_on": self.train_on}
        return urlencode({**({"model": self.model.pk} if self.model else {}), **values})

    @property
    def options(self) -> dict[str, Any]:
        """For ``asks.tokens``."""
        return {"split": self.split, "train_on": self.train_on, "max_seq_length": self.length}


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring tokens of one fate: ``trained``, ``plain`` or ``cut``."""

    look: str
    tokens: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """One sequence of a row. ``name``: ``chosen``, ``rejected``, ``completion``, ``prompt``; "" of a row to imitate."""

    name: str
    runs: list[Run]
    trained: int
    kept: int
    cut: int
    hidden: int

    @classmethod
    def of(cls, found: dict[str, Any]) -> Part:
        """From a row or a part of one, as the engine's token view gives it."""
        hidden = max(0, found["total"] - len(found["tokens"]))
        kept = found["total"] - found["cut"]
        return cls(found.get("name", ""), runs(found["tokens"]), found["trained"], kept, found["cut"], hidden)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the histogram; places and sizes in percent of the drawing."""

    x: float
    width: float
    y: float
    height: float
    label: str
    rows: int
    span: str

    @property
    def middle(self) -> float:
        """Where its label stands."""
        return round(self.x + self.width / 2, 2)


def choice_of(request: HttpRequest, splits: dict[str, int]) -> Choice:
    """What the address asks for; the newest model that can be trained where it names none."""
    rows = ModelVersion.objects.visible_to(request.user).filter(model__deleted_at=None)
    models = list(rows.exclude(kind=ModelVersion.Kind.ADAPTER).select_related("model").order_by("-created_at")[:200])
    try:
        wanted = uuid.UUID(request.GET.get("model", ""))
    except ValueError:
        wanted = None
    model = next((m for m in models if m.pk == wanted), models[0] if models else None)
    split = request.GET.get("split", "")
    train_on = request.GET.get("train_on", "")
    try:
        length = max(8, min(int(request.GET.get("length", "1024")), 1 << 20))
    except ValueError:
        length = 1024
    return Choice(
        model,
        models,
        split if split in splits else next(iter(splits), "train"),
        length,
        train_on if train_on in dict(TRAIN_ON) else "assistant",
    )


@require_safe
def tokens_tab(request: HttpRequest, dataset_id: Any) -> HttpResponse:
    """The frame of the length histogram; the counts come by themselves, since they may take a while."""
    context = page_of(request, dataset_id, "dataset_tokens")
    return render(request, "datasets/tokens.html", {**context, **_choices(request, context)})


@require_safe
def statistics(request: HttpRequest, dataset_id: Any) -> HttpResponse:
    """Counts over all rows of the split: histogram, shares that are cut, padding."""
    context = page_of(request, dataset_id, "dataset_tokens")
    choice = choice_of(request, context["splits"])
    if choice.model is None:
        return render(request, "datasets/_counts.html", {"counts": None})
    try:
        counts = _ask(context["version"], choice, statistics=True)["statistics"]
    except DomainError as error:
        return render(request, "_error.html", {"error": error})  # as 200, since htmx leaves out other answers
    cut = [(int(length), share) for length, share in counts["cut_share"].items()]
    context |= {
        "counts": counts,
        "choice": choice,
        # A pair is two sequences; answers that were kept before pairs were known do not tell.
        "unit": "sequence" if counts.get("sequences", counts["rows"]) > counts["rows"] else "row",
        "bars": histogram(counts["histogram"]),
        "cut": sorted(cut),
        "cut_here": dict(cut).get(choice.length, 0),
    }
    return render(request, "datasets/_counts.html", context)


@require_safe
def trained_tab(request: HttpRequest, dataset_id: Any) -> HttpResponse:
    """One row, token by token, with the mask that the training itself uses."""
    context = page_of(request, dataset_id, "dataset_trained")
    context |= _choices(request, context)
    choice: Choice = context["choice"]
    total = context["splits"].get(choice.split, 0)
    base = reverse("dataset_trained", args=[dataset_id])
    query = choice.query + ("" if context["newest"] else f"&v={context['version'].n}")
    if request.GET.get("pick") == "random" and total:
        return redirect(f"{base}?{query}&row={random.randint(1, total)}")
    context |= {"total": total, "row": None, "error": None, "base": f"{base}?{query}", "picks": PICKS}
    if choice.model is not None and total:
        try:
            context |= _shown(context["version"], choice, request, total)
        except DomainError as error:
            context["error"] = error
    return render(request, "datasets/trained.html", context)


def _shown(version: DatasetVersion, choice: Choice, request: HttpRequest, total: int) -> dict[str, Any]:
    pick = request.GET.get("pick", "")
    if pick in PICKS:
        row = _ask(version, choice, pick=pick, count=1)["rows"][0]
    else:
        text = request.GET.get("row", "1")
        number = max(1, min(int(text), total)) if text.isdecimal() and len(text) < 10 else 1
        row = _ask(version, choice, rows=[number])["rows"][0]
    n = row["row"]
    return {
        "row": row,
        "parts": [Part.of(part) for part in row.get("parts") or ([row] if row["tokens"] else [])],
        "about": row.get("about", {}),
        "kept": row["total"] - row["cut"],
        "before": n - 1 if n > 1 else 0,
        "after": n + 1 if n < total else 0,
    }


def runs(tokens: list[dict[str, Any]]) -> list[Run]:
    """Tokens in groups of neighbours that share their fate."""

    def look(token: dict[str, Any]) -> str:
        return "cut" if token["cut"] else "trained" if token["trained"] else "plain"

    return [Run(name, list(group)) for name, group in groupby(tokens, look)]


def histogram(buckets: list[list[int | None]]) -> list[Bar]:
    """``[most tokens, rows]`` as bars; empty ends are left out. The height is a share of 78 %, for the labels' sake."""
    filled = [i for i, (_, rows) in enumerate(buckets) if rows]
    if not filled:
        return []
    first, last = max(0, filled[0] - 1), min(len(buckets) - 1, filled[-1] + 1)
    most = max(rows or 0 for _, rows in buckets)
    width, bars = 100 / (last - first + 1), []
    for place, i in enumerate(range(first, last + 1)):
        edge, count = buckets[i]
        low = (buckets[i - 1][0] or 0) + 1 if i else 1
        span = f"{low:,} to {edge:,} tokens" if edge else f"more than {low - 1:,} tokens"
        height = 78 * (count or 0) / most
        label = f"{edge}" if edge in LABELLED else "" if edge else "more"
        bars.append(
            Bar(
                round(place * width + width * 0.08, 2), round(width * 0.84, 2), round(88 - height, 2),
                round(height, 2), label, count or 0, span,
            )
        )  # fmt: skip
    return bars


def _ask(version: DatasetVersion, choice: Choice, **options: Any) -> dict[str, Any]:
    assert choice.model is not None
    return asks.tokens(version, choice.model, **choice.options, **options)


def _choices(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    choice = choice_of(request, context["splits"])
    return {"choice": choice, "lengths": sorted({*LENGTHS, choice.length}), "train_ons": TRAIN_ON}
