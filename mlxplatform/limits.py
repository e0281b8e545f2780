"""Bounds on request bodies, ahead of Django, which would first write them to the disk whole."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from mlxplatform.core.env import env

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

STRANGER = 1 << 20  # bytes of a request that carries neither cookie nor token
PLAIN = 8 << 20  # bytes of anything but an upload


class TooLarge(Exception):  # noqa: N818 - a message between two functions of this file
    """The body is longer than it may be."""


class BodyLimit:
    """Answers 413 to a body that is too long, by its announced length or as it comes."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        limit = body_limit(headers)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            await _refuse(send, limit)
            return
        seen, started = 0, False

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise TooLarge
            return message

        async def noted(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except TooLarge:
            if not started:
                await _refuse(send, limit)


def body_limit(headers: dict[bytes, bytes]) -> int:
    """The most bytes that a request with these headers may send."""
    if b"cookie" not in headers and b"authorization" not in headers:
        return STRANGER
    if headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data"):
        return (env().max_upload_mb << 20) + PLAIN
    return PLAIN


async def _refuse(send: Send, limit: int) -> None:
    error = {
        "loc": [],
        "code": "body.too_large",
        "message": f"The request is larger than {limit >> 20} MiB.",
        "hint": "Send less, or sign in; uploads are multipart/form-data up to MLXP_MAX_UPLOAD_MB.",
    }
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"errors": [error]}).encode()})
