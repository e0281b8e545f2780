"""The parts that pages are built of: ``{% load ui %}``. Each is used in ``templates/gallery.html``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple, RadioSelect
from django.template import Context, Library
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from mlxplatform.templatetags.numbers import MISSING, finite, fixed, signed

register = Library()

STATES = {
    "queued": "queued",
    "starting": "starting",
    "running": "running",
    "stopping": "stopping",
    "paused": "paused",
    "stopped": "stopped",
    "succeeded": "succeeded",
    "failed": "failed",
    "lost": "failed",
    "drained": "stopped",
    "waiting": "queued",
    "approval": "approval",
    "skipped": "stopped",
    "cancelled": "stopped",
}
SHAPES = {"lost": "lost", "drained": "paused", "skipped": "skipped"}
BARS = {
    "succeeded": "good", "failed": "bad", "stopped": "ended", "cancelled": "ended", "paused": "warn",
    "stopping": "warn",
}  # fmt: skip
SPARK = (120, 28)  # view box of a sparkline


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """An icon of the sprite (names: ``mlxplatform.assets.ICONS``). Without a label it is decoration."""
    href = f"{static('vendor/icons.svg')}#{name}"
    if label:
        return format_html('<svg class="icon" role="img" aria-label="{}"><use href="{}"/></svg>', label, href)
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}"/></svg>', href)


@register.inclusion_tag("_state.html")
def state(value: str, reason: str = "") -> dict[str, Any]:
    """The pill of a job's or attempt's state with its shape, its word and, after it, the reason."""
    value = str(value)
    return {
        "state": value,
        "look": STATES.get(value, "queued"),
        "shape": shape_of(value),
        "reason": reason,
    }


@register.filter
def shape_of(value: Any) -> str:
    """The icon that stands for a state."""
    value = str(value)
    return "state-" + SHAPES.get(value, STATES.get(value, "queued"))


@register.inclusion_tag("_progress.html")
def progress(done: Any, total: Any, label: str = "Progress", state: str = "running", text: str = "") -> dict[str, Any]:
    """A bar ``done`` of ``total``; ``text`` is what a screen reader says after the percent ("14 min left")."""
    done_number, total_number = finite(done), finite(total)
    known = done_number is not None and bool(total_number)
    share = min(1.0, max(0.0, (done_number or 0) / (total_number or 1)))
    words = f"{fixed(share * 100, 0)} percent" if known else "not started"
    return {
        "known": known,
        "done": done_number,
        "total": total_number,
        "share": share,
        "label": label,
        "look": BARS.get(str(state), ""),
        "valuetext": f"{words}, {text}" if text else words,
    }


@register.inclusion_tag("_field.html")
def field(bound: BoundField, unit: str = "", about: str = "", origin: str = "") -> dict[str, Any]:
    """A form field with label, hint, unit, error and unfolding help, wired for screen readers.

    ``about`` is the plain-language text behind the question mark; ``origin`` says where the value
    comes from ("default", "preset", "you").
    """
    ids = [f"{bound.auto_id}_{part}" for part, there in (("hint", bound.help_text), ("error", bound.errors)) if there]
    widget = bound.field.widget
    attrs: dict[str, str | bool] = {"aria-describedby": " ".join(ids)} if ids else {}
    if bound.errors:
        attrs["aria-invalid"] = "true"
    kind = "group" if isinstance(widget, RadioSelect | CheckboxSelectMultiple) else "text"
    if isinstance(widget, CheckboxInput):
        kind = "check"
    return {
        "field": bound,
        "control": "" if kind == "group" else bound.as_widget(attrs=attrs),
        "described": " ".join(ids),
        "kind": kind,
        "unit": unit,
        "help": about,
        "origin": origin,
    }


@register.inclusion_tag("_error_summary.html")
def error_summary(*forms: Any) -> dict[str, Any]:
    """All problems of the forms as links to their fields; takes the focus when it appears."""
    rows = []
    for form in forms:
        rows += [{"id": "", "label": "", "message": message} for message in form.non_field_errors()]
        rows += [
            {"id": bound.id_for_label or bound.auto_id, "label": bound.label, "message": message}
            for bound in form
            for message in bound.errors
        ]
    return {"rows": rows}


@register.simple_tag
def when(value: datetime | None, style: str = "relative") -> SafeString:
    """A moment as ``<time>``: UTC without JavaScript, the visitor's clock with it.

    ``style``: ``relative`` ("3 min ago"), ``clock`` ("11:05", with the day if it is not today) or ``full``.
    """
    if value is None:
        return format_html("{}", MISSING)
    moment = value.astimezone(timezone.get_default_timezone()) if timezone.is_aware(value) else value
    stamp = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return format_html(
        '<time datetime="{}" data-time="{}">{}</time>', stamp, style, moment.strftime("%d %b %Y, %H:%M UTC")
    )


@register.simple_tag
def delta(value: Any, lower_is_better: bool = True, places: int = 4) -> SafeString:
    """A signed difference that says in word and colour whether it is better or worse."""
    number = finite(value)
    if number is None:
        return format_html('<span class="delta">{}</span>', MISSING)
    if number == 0:
        return format_html('<span class="delta">{} same</span>', signed(0, places))
    word = "better" if (number < 0) == lower_is_better else "worse"
    return format_html('<span class="delta {}">{} {}</span>', word, signed(number, places), word)


@register.simple_tag
def sparkline(values: Iterable[Any], label: str = "Trend") -> SafeString:
    """A line without axes from at least two finite values, drawn on the server."""
    numbers = [number for number in map(finite, values) if number is not None]
    if len(numbers) < 2:
        return SafeString("")
    width, height = SPARK
    low, span = min(numbers), (max(numbers) - min(numbers)) or 1.0
    points = " ".join(
        f"{index * width / (len(numbers) - 1):.1f},{2 + (height - 4) * (1 - (number - low) / span):.1f}"
        for index, number in enumerate(numbers)
    )
    said = f"{label}: from {fixed(numbers[0], 4)} to {fixed(numbers[-1], 4)}"
    return format_html(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<polyline points="{}"/></svg>',
        width,
        height,
        said,
        points,
    )


@register.simple_tag(takes_context=True)
def here(context: Context, path: str, exact: bool = False) -> SafeString:
    """``aria-current="page"`` when the request's path is ``path`` or, unless ``exact``, lies below it."""
    request = context.get("request")
    now = request.path if request else ""
    same = now == path or (not exact and path != "/" and now.startswith(path))
    return SafeString('aria-current="page"') if same else SafeString("")
