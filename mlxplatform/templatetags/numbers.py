"""How numbers are written on every page: ``{% load numbers %}{{ job.loss|loss }}``.

``static/js/numbers.js`` is the twin of this file for numbers that arrive live; both are tested with the
one table ``tests/number_formats.json``. A missing value is an en dash; NaN and infinity are shown as such.
Unit and number are joined by a no-break space, minus is U+2212.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from django.template import Library

register = Library()

MISSING = "\u2013"
NBSP = "\u00a0"
MINUS = "\u2212"


def finite(value: Any) -> float | None:
    """``value`` as a finite float, else None. The journal's words "nan" and "inf" are not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def unusual(value: Any) -> str:
    """What stands in place of a number that is missing or not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return MISSING
    if math.isnan(number):
        return "NaN"
    return "\u221e" if number > 0 else MINUS + "\u221e"


def fixed(number: float, places: int) -> str:
    """Rounded half away from zero (as JavaScript's toFixed does), thousands separated, real minus."""
    rounded = Decimal(number).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    text = f"{abs(rounded):,.{places}f}"
    return MINUS + text if rounded < 0 else text


@register.filter
def loss(value: Any) -> str:
    """A loss or another small score: 4 decimals."""
    number = finite(value)
    return unusual(value) if number is None else fixed(number, 4)


@register.filter
def perplexity(value: Any) -> str:
    """2 decimals."""
    number = finite(value)
    return unusual(value) if number is None else fixed(number, 2)


@register.filter
def percent(value: Any, places: int = 1) -> str:
    """A fraction as percent: 0.613 → 61.3 %."""
    number = finite(value)
    return unusual(value) if number is None else fixed(number * 100, int(places)) + NBSP + "%"


@register.filter
def rate(value: Any) -> str:
    """A learning rate: 1.0e-4, 2.5e-5, 1.25e-3; 0 stays 0."""
    number = finite(value)
    if number is None:
        return unusual(value)
    if number == 0:
        return "0"
    mantissa, exponent = f"{abs(number):.2e}".split("e")
    mantissa = mantissa[:-1] if mantissa.endswith("0") else mantissa
    return (MINUS if number < 0 else "") + f"{mantissa}e{int(exponent)}"


@register.filter
def signif(value: Any) -> str:
    """3 significant digits (gradient norm): 0.0123, 1.23, 12.3, 1,230; below 0.001 as a power of ten."""
    number = finite(value)
    if number is None:
        return unusual(value)
    size = abs(number)
    if size == 0:
        return "0"
    if size < 0.001 or size >= 1e9:
        return rate(number)
    return fixed(number, max(0, 2 - math.floor(math.log10(size))))


@register.filter
def count(value: Any) -> str:
    """A whole number with thousands separated: 1,240."""
    number = finite(value)
    return unusual(value) if number is None else fixed(number, 0)


@register.filter
def compact(value: Any) -> str:
    """A large count: 950, 12.3 k, 1.24 M, 3.10 B."""
    number = finite(value)
    if number is None:
        return unusual(value)
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= size:
            base = 1e3 if unit == "k" else size
            return fixed(number / base, 1 if unit == "k" else 2) + NBSP + unit
    return fixed(number, 0)


@register.filter
def speed(value: Any) -> str:
    """Tokens or rows per second, without the unit: whole from 100 on, else one decimal."""
    number = finite(value)
    return unusual(value) if number is None else fixed(number, 0 if abs(number) >= 100 else 1)


@register.filter
def memory(value: Any) -> str:
    """Bytes of memory in units of 1,024: 9.4 GB, 512 MB."""
    return sized(value, 1024)


@register.filter
def disk(value: Any) -> str:
    """Bytes on a disk in units of 1,000: 210.4 GB, 35 MB."""
    return sized(value, 1000)


def sized(value: Any, base: int) -> str:
    """Bytes with one decimal from GB on, whole MB and kB, else plain bytes."""
    number = finite(value)
    if number is None:
        return unusual(value)
    for power, unit, places in ((4, "TB", 2), (3, "GB", 1), (2, "MB", 0), (1, "kB", 0)):
        if abs(number) >= base**power:
            return fixed(number / base**power, places) + NBSP + unit
    return fixed(number, 0) + NBSP + "B"


@register.filter
def duration(value: Any) -> str:
    """Seconds: 0.8 s, 38 s, 4 min 05 s, 14 min, 1 h 04 min, 2 d 03 h."""
    number = finite(value)
    if number is None or number < 0:
        return unusual(value) if number is None else MISSING
    if number < 9.95:
        return fixed(number, 1).removesuffix(".0") + NBSP + "s"
    seconds = int(number + 0.5)
    if seconds < 60:
        return f"{seconds}{NBSP}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 10:
        return f"{minutes}{NBSP}min {seconds:02d}{NBSP}s"
    minutes += seconds >= 30
    if minutes < 60:
        return f"{minutes}{NBSP}min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}{NBSP}h {minutes:02d}{NBSP}min"
    days, hours = divmod(hours, 24)
    return f"{days}{NBSP}d {hours:02d}{NBSP}h"


@register.filter
def signed(value: Any, places: int = 4) -> str:
    """A difference with its sign: +0.0412, −0.3100."""
    number = finite(value)
    if number is None:
        return unusual(value)
    text = fixed(number, int(places))
    return text if text.startswith(MINUS) or not text.strip("0.,") else "+" + text


@register.filter
def exact(value: Any) -> str:
    """The unshortened whole number for a title: 10,093,173,145."""
    return count(value)
