"""Pages of the roof and what every page shows around its content."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def chrome(request: HttpRequest) -> dict[str, Any]:
    """What ``base.html`` needs: the theme, kept in a cookie so that the server prints it without a flash."""
    theme = request.COOKIES.get("theme", "auto")
    return {"theme": theme if theme in {"auto", "light", "dark"} else "auto"}
