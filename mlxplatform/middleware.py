"""Response headers for every answer, and domain errors as pages."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from mlxplatform.api_errors import answer
from mlxplatform.core.errors import DomainError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class Headers:
    """Content Security Policy and its companions; an answer that set its own policy keeps it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        response.headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
        return response


class ApiErrors:
    """What Django itself refuses below ``/api/`` (method, host, CSRF, size) gets the API's shape."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        plain = not response.headers.get("Content-Type", "").startswith("application/json")
        if request.path_info.startswith("/api/") and 400 <= response.status_code < 500 and plain:
            refusal = answer(response.status_code)
            if "Allow" in response.headers:
                refusal["Allow"] = response.headers["Allow"]
            return refusal
        return response


class DomainErrors:
    """A domain error that a view lets pass becomes a page, or a fragment for htmx."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The error's page; anything that is no domain error goes on to Django."""
        if not isinstance(error, DomainError):
            return None
        name = "_error.html" if getattr(request, "htmx", False) else "error.html"
        return render(request, name, {"error": error}, status=error.status)
