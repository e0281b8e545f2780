"""The web process: ``python -m mlxplatform.web --fd N --lifeline M``, started by the launcher.

It serves on a socket that the launcher bound and keeps, so that requests wait in its queue, and are not refused,
while a web process that died is started anew.
"""

from __future__ import annotations

import argparse
import os
import socket

import uvicorn

from mlxplatform.core.env import env
from mlxplatform.core.lifeline import follow_parent

MAX_FRAME = 1 << 16  # bytes of one message from a browser


def config() -> uvicorn.Config:
    """How the dashboard is served. Measured: without per-message deflate a full house costs half the time."""
    return uvicorn.Config(
        "mlxplatform.asgi:application",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=MAX_FRAME,
        lifespan="off",
        timeout_graceful_shutdown=3,
        # Forwarded headers are believed only when a proxy that ends TLS is declared.
        proxy_headers=env().https,
        server_header=False,
        access_log=False,
        log_level="warning",
    )


def main() -> None:
    """Serve until SIGTERM or until the launcher is gone."""
    parser = argparse.ArgumentParser(prog="python -m mlxplatform.web")
    parser.add_argument("--fd", type=int, required=True, help="the listening socket")
    parser.add_argument("--lifeline", type=int, required=True, help="descriptor that ends with the launcher")
    args = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlxplatform.settings")
    follow_parent(args.lifeline)
    uvicorn.Server(config()).run(sockets=[socket.socket(fileno=args.fd)])


if __name__ == "__main__":
    main()
