"""Who calls the API: a bearer token, or the browser's session with its CSRF token. Nobody else."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from ninja.security import APIKeyCookie
from ninja.security.base import AuthBase

from mlxplatform.core.access import digest, role_of
from mlxplatform.core.errors import DomainError, Forbidden, TooMuch
from mlxplatform.core.models import ApiToken

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
USED_EVERY = timedelta(minutes=1)  # how finely last_used_at is kept
WINDOW, LIMIT, MOST_ADDRESSES = 300.0, 30, 10_000


class Unauthorized(DomainError):  # noqa: N818 - named as its family in core.errors
    """Nobody that we know."""

    status = 401


class Failures:
    """Failed calls of the last minutes by address, in memory: guards against load, not against guessing 256 bits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, int]] = {}

    def check(self, address: str) -> None:
        """Raise TooMuch after too many failures."""
        began, count = self._seen.get(address, (0.0, 0))
        if count >= LIMIT and time.monotonic() - began < WINDOW:
            raise TooMuch("token.throttled", "Too many calls with a wrong token.", "Wait five minutes.")

    def note(self, address: str) -> None:
        """Count one."""
        now = time.monotonic()
        with self._lock:
            if len(self._seen) >= MOST_ADDRESSES:
                self._seen = {a: s for a, s in self._seen.items() if now - s[0] < WINDOW}
            began, count = self._seen.get(address, (now, 0))
            fresh = now - began >= WINDOW
            self._seen[address] = (now, 1) if fresh else (began, count + 1)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._seen.clear()


failures = Failures()


class Bearer(AuthBase):
    """``Authorization: Bearer mlxp_…``. A read token may only look."""

    openapi_type: str = "http"
    openapi_scheme: str = "bearer"

    def __call__(self, request: HttpRequest) -> Any:
        """The token, None when the request carries none. Raises Unauthorized, Forbidden, TooMuch."""
        header = request.headers.get("Authorization", "")
        if not header:
            return None
        address = request.META.get("REMOTE_ADDR", "")
        failures.check(address)
        kind, _, secret = header.partition(" ")
        token = ApiToken.objects.select_related("owner").filter(digest=digest(secret.strip())).first()
        if kind.lower() != "bearer" or token is None or not token.is_live or not token.owner.is_active:
            failures.note(address)
            raise Unauthorized("token.invalid", "This token is unknown, revoked or expired.", "Make a new one.")
        request.user = token.owner
        _with_role(request)
        if request.method not in SAFE and token.scope != ApiToken.Scope.WRITE:
            raise Forbidden("token.scope", "This token may only read.", "Make one with the scope 'write'.")
        _used(token)
        return token


class Session(APIKeyCookie):
    """The signed-in browser; methods that change something need ``X-CSRFToken``."""

    param_name = settings.SESSION_COOKIE_NAME

    def __call__(self, request: HttpRequest) -> Any:
        """The person, None for a stranger. Raises Forbidden without role; a bad CSRF token is 403 too."""
        if not request.user.is_authenticated:
            return None
        return super().__call__(request)

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        """The person of the session, whom the middleware has found already."""
        _with_role(request)
        return request.user


def _with_role(request: HttpRequest) -> None:
    if role_of(request.user) is None:
        raise Forbidden("access.no_role", "This account has no role.", "Ask an admin to give it one.")


def _used(token: ApiToken) -> None:
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > USED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
