"""A page with every part of the design in every state, served from memory under the real policy."""

from __future__ import annotations

import json
import math
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django import forms
from django.contrib.auth.models import AnonymousUser, User
from django.core.paginator import Paginator
from django.template.loader import render_to_string
from django.test import RequestFactory

ROOT = Path(__file__).resolve().parents[2]
JOB = "7d7d1c44-98a2-4c35-9d7e-2f7a5a1f0c01"
TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".json": "application/json",
}


class Form(forms.Form):
    """One field of each kind, with and without errors."""

    name = forms.CharField(label="Name", help_text="Shown in lists and in the browser's tab.")
    rate = forms.FloatField(label="Learning rate", max_value=0.1)
    length = forms.IntegerField(label="Sequence length", help_text="Longer rows are cut.")
    disk = forms.FloatField(label="Keep free", required=False)
    method = forms.ChoiceField(label="Method", choices=[("qlora", "QLoRA"), ("full", "Full fine-tuning")])
    preset = forms.ChoiceField(
        label="How thorough", choices=[("t", "Taste"), ("s", "Standard"), ("l", "Long")], widget=forms.RadioSelect
    )
    masked = forms.BooleanField(label="Train on answers only", required=False, help_text="Questions are context.")
    notes = forms.CharField(label="Notes", required=False, widget=forms.Textarea(attrs={"rows": 3}))
    file = forms.FileField(label="Data file", required=False)
    seed = forms.IntegerField(label="Seed", required=False)


def job_rows() -> list[dict[str, Any]]:
    """Five jobs of a list, one in each of the states that matter."""
    jobs = [
        ("running", "", 1.9127, 740),
        ("queued", "2nd in line", None, None),
        ("succeeded", "", 1.4211, 1560),
        ("failed", "memory", None, 38),
        ("stopped", "", 2.2003, 4000),
    ]
    return [
        {
            "n": 142 - i,
            "name": f"support-bot-{i}",
            "state": state,
            "reason": why,
            "best": best,
            "speed": 1210.0,
            "took": t,
        }
        for i, (state, why, best, t) in enumerate(jobs)
    ]


def context(theme: str) -> dict[str, Any]:
    """What the gallery shows; figures are those of a small training."""
    form = Form({"name": "support-bot", "rate": "3", "length": "", "method": "qlora", "preset": "s", "masked": "on"})
    states = ["queued", "starting", "running", "stopping", "paused", "stopped", "succeeded", "failed"]
    return {
        "theme": theme,
        "csrf_token": "t" * 64,
        "user": User(username="ada", is_staff=True),
        "now": datetime.now(UTC) - timedelta(minutes=3),
        "job": JOB,
        "form": form,
        "states": [*states, "lost", "drained", "waiting", "approval", "skipped"],
        "rows": job_rows(),
        "page": Paginator(range(130), 50).page(2),
        "spark": [2.9, 2.4, 2.2, 2.3, 1.9, 1.8, 1.7, 1.72],
        "tabs": [
            {"url": "/jobs/", "label": "Overview", "current": True},
            {"url": "/jobs/charts/", "label": "Charts"},
            {"url": "/jobs/logs/", "label": "Log"},
            {"url": "/jobs/checkpoints/", "label": "Checkpoints", "count": 4},
        ],
        "facts": [
            ("Method", "QLoRA, rank 16"),
            ("Length", "3,000 steps, 3 epochs"),
            ("Rows", "512, of which 26 for validation"),
            ("Estimate", "1.9 GB of 16 GB"),
            ("Optimizer", "AdamW, bias correction on"),
        ],
        "error": SimpleNamespace(
            message="Line 17 of train.jsonl is no JSON.", hint="Correct the line, then import again.", code="data.json"
        ),
    }


def series() -> dict[str, Any]:
    """A loss curve with a spike, a validation curve and a speed."""
    steps = list(range(10, 1241, 10))
    curve = [1.6 + 1.5 * math.exp(-s / 300) + 0.08 * math.sin(s * 1.7) + (1.2 if s == 700 else 0) for s in steps]
    evaluated = list(range(100, 1241, 100))
    val = [1.75 + 1.3 * math.exp(-s / 260) + max(0, s - 900) * 0.0004 for s in evaluated]
    return {
        "seq": 40,
        "marks": {"checkpoint": [400, 800, 1200], "resume": [620]},
        "train_loss": {"step": steps, "min": [v - 0.1 for v in curve], "max": [v + 0.1 for v in curve], "last": curve},
        "val_loss": {"step": evaluated, "min": val, "max": val, "last": val},
        "tokens_per_second": {"step": steps, "last": [1200 + 60 * math.sin(s) for s in steps]},
    }


def log_page(start: int, before: bool) -> dict[str, Any]:
    """A log by byte offset, with colours, markup and a line written over."""
    rows = [f"step {n} train_loss {3 - n / 200:.4f}" for n in range(200)]
    rows[190] = "\x1b[33mwarning\x1b[0m: <script>alert(1)</script> is only text"
    rows[191] = " 10%|#   |\r 50%|###  |\r100%|#####|"
    rows[192] = "error: one line that is wrong"
    raw = ("\n".join(rows) + "\n").encode()
    end = len(raw) if not before else start
    first = max(0, len(raw) + start) if start < 0 else (max(0, start - 2000) if before else start)
    first = raw.find(b"\n", first) + 1 if 0 < first < len(raw) and (start < 0 or before) else first
    return {"from": first, "next": end, "size": len(raw), "text": raw[first:end].decode()}


class Handler(BaseHTTPRequestHandler):
    """The gallery, the static files, series and log."""

    policy = ""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if self.headers.get("HX-Request"):
            self.send_response(204)
            self.end_headers()
        elif url.path == "/series.json":
            self.answer("application/json", json.dumps(series()).encode())
        elif url.path == "/log":
            self.answer("application/json", json.dumps(log_page(int(query["from"]), "before" in query)).encode())
        elif url.path.startswith("/static/"):
            file = ROOT / "mlxplatform" / "static" / url.path.removeprefix("/static/")
            if file.is_file():
                self.answer(TYPES[file.suffix], file.read_bytes())
            else:
                self.send_error(404)
        elif url.path == "/empty":
            self.answer("text/html; charset=utf-8", b"<!doctype html><title>Empty</title>")
        elif url.path == "/":
            self.answer("text/html; charset=utf-8", render(query.get("theme", "auto")).encode())
        else:
            self.send_error(404)

    def answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", self.policy)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


def render(theme: str) -> str:
    """The gallery as HTML."""
    request = RequestFactory().get("/jobs/")
    request.user = AnonymousUser()
    return render_to_string("gallery.html", context(theme), request)


def serve(policy: str) -> tuple[ThreadingHTTPServer, str]:
    """Start on a free port; the caller shuts it down."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("PolicyHandler", (Handler,), {"policy": policy}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"
