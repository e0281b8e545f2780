"""What the pages of data sets need: ``{% load datasets %}``."""

from __future__ import annotations

import json
from typing import Any

from django.template import Library
from django.utils.html import format_html
from django.utils.safestring import SafeString

from training.engine.catalog.formats import FORMATS

register = Library()


@register.filter
def format_label(name: str) -> str:
    """A row format's name for people."""
    return FORMATS[name].label if name in FORMATS else str(name)


@register.filter
def dictkey(values: dict[str, Any], key: str) -> Any:
    """The value that stands under ``key``."""
    return values.get(key)


@register.simple_tag
def json_line(value: Any) -> str:
    """A value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False)


@register.simple_tag
def token(value: dict[str, Any]) -> SafeString:
    """One token: a chip if it is a mark of the model, with line breaks and odd blanks made visible."""
    looks = [name for name in ("trained", "cut", "special") if value.get(name)]
    text = str(value.get("text", ""))
    shown = text.replace("\r", "␍").replace("\t", "⇥\t").replace("\n", "↵\n") if not value.get("special") else text
    return format_html('<span class="{}" title="{}">{}</span>', " ".join(["tok", *looks]), value.get("id", ""), shown)
