"""A Hub of one data set on 127.0.0.1: the few answers that ``datasets`` needs to stream JSONL files."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

COMMIT = "a" * 40
_ID = "b" * 40


@contextmanager
def serve(repo: str, files: dict[str, bytes]) -> Iterator[str]:
    """The address of a Hub that has the data set ``repo`` with ``files`` (path → content) and nothing else."""
    handler = type("Handler", (_Handler,), {"repo": repo, "files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers as the Hub does, for one data set."""

    repo = ""
    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        api, raw = f"/api/datasets/{self.repo}", f"/datasets/{self.repo}/resolve/{COMMIT}/"
        if path.startswith(f"{api}/tree/"):
            self._json(_listing(self.files, path.partition(COMMIT)[2].strip("/")))
        elif path == api or path.startswith(f"{api}/revision/"):
            siblings = [{"rfilename": name} for name in self.files]
            self._json({"id": self.repo, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings})
        elif path.startswith(raw) and path.removeprefix(raw) in self.files:
            self._file(self.files[path.removeprefix(raw)])
        else:
            missing = "EntryNotFound" if "/resolve/" in path else "RepoNotFound"
            self._head(404, {"X-Error-Code": missing}, 0)

    def _json(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self._head(200, {"Content-Type": "application/json"}, len(content))
        self._body(content)

    def _file(self, content: bytes) -> None:
        headers = {"ETag": f'"{_ID}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            content = content[start : end + 1]
        self._head(206 if wanted else 200, headers, len(content))
        self._body(content)

    def _head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, content: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _listing(files: dict[str, bytes], folder: str) -> list[dict[str, Any]]:
    """One level of the repository's tree."""
    found = [
        {"type": "file", "path": name, "size": len(content), "oid": _ID}
        for name, content in files.items()
        if name.rpartition("/")[0] == folder
    ]
    below = sorted({name.partition("/")[0] for name in files if "/" in name}) if not folder else []
    return found + [{"type": "directory", "path": name, "size": 0, "oid": _ID} for name in below]
