"""The ASGI application: pages and API by Django, the live socket by Channels, bodies bounded before either."""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlxplatform.settings")
django_app = get_asgi_application()  # before anything that needs the tables

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from mlxplatform.limits import BodyLimit  # noqa: E402
from training.consumers import JobConsumer  # noqa: E402

websocket_urlpatterns: list[Any] = [path("ws/live/", JobConsumer.as_asgi())]


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    """Any other socket path: refused, without a traceback in the log."""
    await receive()
    await send({"type": "websocket.close", "code": 4404})


no_such_socket: Any = _refuse

application = ProtocolTypeRouter(
    {
        "http": BodyLimit(django_app),
        "websocket": AuthMiddlewareStack(
            URLRouter([*websocket_urlpatterns, path("<path:rest>", no_such_socket), path("", no_such_socket)])
        ),
    }
)
