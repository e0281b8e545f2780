"""The dashboard's port: take it, or say who has it."""

from __future__ import annotations

import contextlib
import errno
import socket
import time

import psutil

from mlxplatform.core.errors import Conflict, Invalid

BACKLOG = 2048
PATIENCE = 1.5  # seconds for the children of a killed launcher to let go


def take(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Conflict naming the process that has the port, Invalid for a wrong address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise Invalid("serve.host", f"'{host}' is no address of this machine.", "Give --host 127.0.0.1.") from None
    deadline = time.monotonic() + PATIENCE
    while True:
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise _refusal(host, port, error) from None
            if time.monotonic() > deadline:
                raise taken(host, port) from None
        time.sleep(0.1)


def taken(host: str, port: int) -> Conflict:
    """The sentence for a port that somebody else has."""
    holder = who(port)
    by = f" by {holder}" if holder else ""
    return Conflict(
        "serve.port_taken",
        f"Port {port} on {host} is already in use{by}.",
        f"End that process, or use another port: python manage.py serve --port {port + 1}",
    )


def who(port: int) -> str:
    """The process that listens on ``port`` as 'name (process 123)'; empty where the system does not tell."""
    with contextlib.suppress(psutil.Error):
        rows = psutil.net_connections(kind="tcp")
        listening = [row for row in rows if row.status == psutil.CONN_LISTEN]
        pids = [row.pid for row in listening if getattr(row.laddr, "port", None) == port and row.pid]
        if pids:
            holder = psutil.Process(min(pids))  # a launcher is older than the web process it shares the socket with
            ours = {"serve", "mlxplatform.web"} & set(holder.cmdline())
            return f"{'another dashboard' if ours else holder.name()} (process {holder.pid})"
    return ""


def _refusal(host: str, port: int, error: OSError) -> Invalid:
    if error.errno == errno.EACCES:
        return Invalid(
            "serve.port_forbidden", f"Port {port} may not be used by you.", "Take one above 1023: --port 8500"
        )
    reason = (error.strerror or str(error)).lower()
    return Invalid("serve.address", f"{host}:{port} cannot be used: {reason}.", "Give --host 127.0.0.1.")
