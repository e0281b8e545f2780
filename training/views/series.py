"""A job's curves as JSON and its raw log as text, for the charts and the log view of its page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import UUID

from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse

from mlxplatform.core.errors import NotFound
from training.charts import MOST_BUCKETS, curves, marks
from training.models import Job

LOG_BLOCK = 256 << 10  # bytes in one answer


def visible_job(user: Any, job_id: UUID) -> Job:
    """The job, if ``user`` may see it; otherwise NotFound, as if it did not exist."""
    job: Job | None = (
        Job.objects.visible_to(user)
        .select_related("model_version__model", "dataset_version__dataset", "owner", "parent")
        .filter(pk=job_id)
        .first()
    )
    if job is None:
        raise NotFound("job.unknown", "There is no such job.", "Look for it in the list of jobs.")
    return job


def series(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """``?keys=train_loss,val_loss&n=1500&from=&to=``: the curves, in at most ``n`` buckets each."""
    job = visible_job(request.user, job_id)
    keys = [key for key in request.GET.get("keys", "").split(",") if key][:32]
    n = _number(request, "n") or 1500
    found = curves(job, keys, min(n, MOST_BUCKETS), _number(request, "from") or 0, _number(request, "to"))
    answer = JsonResponse({**found, "seq": job.last_seq, "marks": marks(job)})
    answer["Cache-Control"] = "no-store"
    return answer


def log(request: HttpRequest, job_id: UUID) -> HttpResponseBase:
    """``?attempt=2&from=0``: whole lines of the raw output as ``{from, next, size, text}``, offsets in bytes.

    A negative ``from`` counts from the end; with ``before=1`` the page ends at ``from``. ``?download`` sends the file.
    """
    job = visible_job(request.user, job_id)
    n = _number(request, "attempt") or job.run_dir.newest_attempt()
    path = job.run_dir.attempt(n).stdout
    if "download" in request.GET and path.is_file():
        name = f"job-{job.number}-attempt-{n}.log"
        return FileResponse(open(path, "rb"), as_attachment=True, filename=name, content_type="text/plain")
    block, begin, size = read_log(path, _signed(request, "from"), before=request.GET.get("before") == "1")
    text = block.decode("utf-8", "replace")
    answer = JsonResponse({"from": begin, "next": begin + len(block), "size": size, "text": text})
    answer["Cache-Control"] = "no-store"
    return answer


def read_log(path: Path, start: int = 0, *, before: bool = False, most: int = LOG_BLOCK) -> tuple[bytes, int, int]:
    """Whole lines of a log from byte ``start`` on (or up to it), where they begin, and the file's size.

    A last line that is still being written is left for the next call, unless it alone is ``most`` long.
    A missing file is empty.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            end = size if not before else min(start, size)
            begin = max(0, end - most) if before else (max(0, size + start) if start < 0 else min(start, size))
            file.seek(begin)
            block = file.read(min(most, end - begin))
    except FileNotFoundError:
        return b"", 0, 0
    if begin > 0 and (before or start < 0):  # it begins in the middle of a line
        cut = block.find(b"\n") + 1
        begin, block = begin + cut, block[cut:]
    whole = block.rfind(b"\n") + 1
    return (block[:whole] if whole or len(block) < most else block), begin, size


def _number(request: HttpRequest, key: str) -> int | None:
    text = request.GET.get(key, "")
    return int(text[:12]) if text.isdecimal() and text.isascii() else None


def _signed(request: HttpRequest, key: str) -> int:
    text = request.GET.get(key, "0")
    digits = text.removeprefix("-")
    return int(text[:13]) if digits.isdecimal() and digits.isascii() else 0
