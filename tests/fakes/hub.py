"""A small Hugging Face Hub on this machine: real HTTP, one model, answers as the real one gives them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/tiny"


class Hub:
    """What is on it and what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        self.status = 200
        self.error = ""  # X-Error-Code
        self.asked: list[str] = []
        self.tokens: set[str] = set()
        self.address = ""


@contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    """A hub that holds the files of ``folder`` as the model ``REPO`` at ``COMMIT``."""
    hub = Hub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, body: bool) -> None:
            hub.asked.append(self.path)
            if token := self.headers.get("authorization"):
                hub.tokens.add(token)
            path = self.path.partition("?")[0]
            if hub.status != 200:
                self._send(hub.status, b"{}", {"X-Error-Code": hub.error} if hub.error else {}, body)
            elif path.startswith(f"/api/models/{REPO}/tree/"):
                self._send(200, json.dumps(_tree(hub)).encode(), {"Content-Type": "application/json"}, body)
            elif path.startswith(f"/api/models/{REPO}"):
                self._send(200, json.dumps(_about(hub)).encode(), {"Content-Type": "application/json"}, body)
            else:
                self._file(path.rpartition("/")[2], body)

        def _file(self, name: str, body: bool) -> None:
            content = hub.files.get(name)
            if content is None:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
                return
            etag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            """Say nothing: what was asked stands in ``hub.asked``."""

    return Handler


def _about(hub: Hub) -> dict[str, object]:
    return {
        "id": REPO,
        "sha": COMMIT,
        "siblings": [{"rfilename": n, "size": len(c), "blobId": "0" * 40} for n, c in hub.files.items()],
        "cardData": {"license": "mit"},
        "tags": [],
    }


def _tree(hub: Hub) -> list[dict[str, object]]:
    return [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in hub.files.items()]
