"""Lists in pages, by cursor: the place of the last row, so that new rows neither shift nor double any."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet

from mlxplatform.core.errors import Invalid

MOST = 200  # rows of a page


def page(rows: QuerySet[Any], order: str, cursor: str = "", limit: int = 50) -> dict[str, Any]:
    """``{"items": rows, "next": cursor or None}``, ordered by the column ``order`` ('-' first: falling), then by key.

    Raises Invalid for a cursor that is not one of ours.
    """
    limit = max(1, min(limit, MOST))
    falling, column = order.startswith("-"), order.lstrip("-")
    rows = rows.order_by(order, "-pk" if falling else "pk")
    if cursor:
        value, key = _opened(cursor)
        side = "lt" if falling else "gt"
        try:
            rows = rows.filter(Q(**{f"{column}__{side}": value}) | Q(**{column: value, f"pk__{side}": key}))
            found = list(rows[: limit + 1])
        except (ValueError, TypeError, OverflowError, ValidationError):
            raise _no_cursor() from None
    else:
        found = list(rows[: limit + 1])
    more = len(found) > limit
    last = found[limit - 1] if more else None
    return {"items": found[:limit], "next": _closed(getattr(last, column), last.pk) if last is not None else None}


def _closed(value: Any, key: Any) -> str:
    text = value.isoformat() if hasattr(value, "isoformat") else value
    return base64.urlsafe_b64encode(json.dumps([text, str(key)]).encode()).decode().rstrip("=")


def _opened(cursor: str) -> tuple[Any, Any]:
    try:
        value, key = json.loads(base64.urlsafe_b64decode(cursor[:400] + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _no_cursor() from None
    if not isinstance(value, str | int) or not isinstance(key, str | int):
        raise _no_cursor()
    return value, key


def _no_cursor() -> Invalid:
    return Invalid("cursor.unknown", "This cursor is not one of ours.", "Start without one.")
