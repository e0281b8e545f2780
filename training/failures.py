"""Why a job failed, in words, and what a person can do about it now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from training.engine.run.journal import last_word
from training.models import Job
from training.summary import HOPELESS, reason_words

LAST_LINES = 15
TAIL = 16 * 1024  # bytes of the raw log that are looked at


@dataclass(frozen=True, slots=True)
class Fix:
    """A button: another try with changed settings. ``url`` opens the form prefilled."""

    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure card of a job's page."""

    reason: str
    code: str
    message: str
    hint: str
    problems: tuple[dict[str, Any], ...]
    lines: str
    fixes: tuple[Fix, ...]
    is_resumable: bool
    """Whether trying again with the same settings can help."""


def explain(job: Job) -> Failure:
    """The failure card of ``job``."""
    family = _family(job)
    problems = job.result.get("problems") or []
    return Failure(
        reason=reason_words(job.reason) if job.reason else "unknown reason",
        code=job.reason,
        message=job.message or "The engine ended without saying why.",
        hint=job.hint,
        problems=tuple(p for p in problems if isinstance(p, dict)),
        lines=last_lines(job),
        fixes=tuple(_fixes(job, family)),
        is_resumable=family not in HOPELESS,
    )


def _family(job: Job) -> str:
    """The kind of error: as the engine's last word says it, else the first part of the reason's code."""
    n = job.run_dir.newest_attempt()
    word = last_word(job.run_dir.attempt(n).journal) if n else None
    return str((word.fields.get("family") if word else "") or job.reason.split(".")[0])


def last_lines(job: Job, count: int = LAST_LINES) -> str:
    """The last lines of the newest attempt's raw output."""
    n = job.run_dir.newest_attempt()
    try:
        with open(job.run_dir.attempt(n).stdout, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            block = file.read(TAIL)
    except OSError:
        return ""
    return "\n".join(block.decode("utf-8", "replace").replace("\r", "\n").splitlines()[-count:])


def _fixes(job: Job, family: str) -> list[Fix]:
    """Changed settings that answer this kind of failure, from the job's own values."""
    if job.kind != Job.Kind.TRAIN:
        return []
    settings = job.settings
    batch, length = int(settings.get("batch_size", 4)), int(settings.get("max_seq_length", 1024))
    accumulation = int(settings.get("grad_accumulation_steps", 1))
    rate = float(settings.get("learning_rate", 1e-4))
    fixes = []
    if family == "memory":
        if batch > 1:
            half = max(1, batch // 2)
            changed = {"batch_size": half, "grad_accumulation_steps": accumulation * (batch // half)}
            fixes.append(_fix(job, f"Half the micro-batch ({half}), same total", changed))
        if not settings.get("grad_checkpoint"):
            fixes.append(_fix(job, "Gradient checkpointing", {"grad_checkpoint": "on"}))
        if length > 256:
            fixes.append(_fix(job, f"Shorter rows ({length // 2} tokens)", {"max_seq_length": length // 2}))
    if family == "diverged":
        fixes.append(_fix(job, f"A tenth of the rate ({rate / 10:.2g})", {"learning_rate": f"{rate / 10:.6g}"}))
        fixes.append(_fix(job, f"Half of the rate ({rate / 2:.2g})", {"learning_rate": f"{rate / 2:.6g}"}))
    if family in {"config", "data", "model"}:
        fixes.append(_fix(job, "Change and try again", {}))
    return fixes


def _fix(job: Job, label: str, changed: dict[str, Any]) -> Fix:
    return Fix(label, f"{reverse('job_new')}?{urlencode({'from': job.pk, **changed})}")
