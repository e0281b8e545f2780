"""From the journal into the database: each batch of lines with its rows and the new offset in one transaction.

The offset stands in the attempt's row and is moved by a conditional UPDATE, so a batch is written once
or not at all, whenever the worker dies. What the engine writes is foreign: names, steps and texts are
checked and cut here. A locked database raises; the caller tries again and the training never notices.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import OperationalError, transaction
from django.utils import timezone

from mlxplatform.core.errors import Conflict
from mlxplatform.core.lifecycle import move
from training.engine.run.journal import MAX_LINE, Event, number, read
from training.models import Attempt, Checkpoint, Job, JobEvent, Sample
from training.series import MAX_STEP, Curves, Point, rescore, truncate
from training.states import AttemptState, JobState

log = logging.getLogger(__name__)

BLOCK = 2 * MAX_LINE  # bytes read at once
JOB_COLUMNS = ("state", "fence", "total_steps", "reason", "message", "hint")  # without the large JSON ones
ATTEMPT_COLUMNS = ("job_id", "n", "fence", "state", "reason", "pid", "step", "first_step")
MAX_LOGS = 200  # log lines of one batch that become events; all of them stand in the raw log
MAX_TEXT = 8000  # characters
ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-_])")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
CHECKPOINT_PATH = re.compile(r"^checkpoints/[0-9]{1,12}(-[0-9]{1,9})?$")


class Tail:
    """Follows the journal of one attempt from the offset that is stored in its row."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt_id, self._job_id = attempt.pk, attempt.job_id
        self._fence = attempt.fence
        self._path = attempt.folder.journal
        self.offset = attempt.journal_offset
        self._curves: Curves | None = None  # only this tail writes them as long as it holds the fence

    def pull(self) -> bool:
        """Write the next complete lines; False when there are none.

        Raises Conflict when another worker holds the job, OperationalError while the database is locked.
        """
        events, offset = read(self._path, self.offset, BLOCK)
        if offset == self.offset:
            return False
        curves, self._curves = self._curves, None  # what a failed batch has touched is read anew
        try:
            with transaction.atomic():
                batch = self._batch(curves)
                batch.write(events, offset)
            self._curves = batch.curves
        except (Conflict, OperationalError):
            raise
        except Exception:
            log.exception("Job %s: a part of the journal cannot be stored as it is.", self._job_id)
            self._one_by_one(events, offset)
        self.offset = offset
        return True

    def _batch(self, curves: Curves | None = None) -> _Batch:
        return _Batch.begin(self._job_id, self._attempt_id, self._fence, self.offset, curves)

    def _one_by_one(self, events: list[Event], offset: int) -> None:
        """Write what can be written and leave out the rest: a single line must not hold up the whole job."""
        left_out = 0
        with transaction.atomic():
            for event in events:
                try:
                    with transaction.atomic():
                        self._batch().write([event], self.offset)
                except (Conflict, OperationalError):
                    raise
                except Exception:
                    left_out += 1
            batch = self._batch()
            batch.tell("log", level="error", message=f"{left_out} lines of the journal could not be stored.")
            batch.write([], offset)

    def drain(self) -> None:
        """Read to the end of a journal that nobody writes any more."""
        while self.pull():
            pass


@dataclass(slots=True)
class _Batch:
    """One transaction's worth of events on its way into the rows."""

    job: Job
    attempt: Attempt
    fence: int
    curves: Curves
    job_columns: dict[str, Any] = field(default_factory=dict)
    attempt_columns: dict[str, Any] = field(default_factory=dict)
    news: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    logs: int = 0

    @classmethod
    def begin(cls, job_id: Any, attempt_id: Any, fence: int, offset: int, curves: Curves | None) -> _Batch:
        """Load what the batch changes. Raises Conflict under an old fence or at another offset."""
        jobs = Job.objects.select_for_update().filter(pk=job_id, fence=fence)
        attempts = Attempt.objects.filter(pk=attempt_id, fence=fence, journal_offset=offset)
        job, attempt = jobs.only(*JOB_COLUMNS).first(), attempts.only(*ATTEMPT_COLUMNS).first()
        if job is None or attempt is None:
            raise Conflict("state.fenced", "Another worker has taken this job over.", "Nothing was written.")
        return cls(job, attempt, fence, curves or Curves.of(job_id))

    def write(self, events: list[Event], offset: int) -> None:
        for event in events:
            handler = HANDLERS.get(event.event)
            if handler is not None:
                handler(self, event)
        self.curves.save()
        if self.logs > MAX_LOGS:
            self.tell("log", level="warning", message=f"{self.logs - MAX_LOGS} more lines stand in the full log only.")
        if self.curves.refused:
            message = (
                f"{self.curves.refused} values were left out: bad name, more than 64 curves, or a step that was there."
            )
            self.tell("log", level="warning", message=message)
            self.curves.refused = 0
        self.flush()
        now = timezone.now()
        columns = {"journal_offset": offset, "heartbeat_at": now, **self.attempt_columns}
        Attempt.objects.filter(pk=self.attempt.pk).update(**columns)
        if self.job_columns:
            Job.objects.filter(pk=self.job.pk).update(**self.job_columns)

    def tell(self, kind: str, **payload: Any) -> None:
        """Queue an event for the pages."""
        self.news.append((kind, payload))

    def flush(self) -> None:
        """Write the queued events; needed before anything else appends its own."""
        if self.news:
            JobEvent.objects.append(self.job.pk, self.news, fence=self.fence)
            self.news = []

    # -- one method for each event of the journal ---------------------------------------------------

    def started(self, event: Event) -> None:
        self.flush()
        attempt, f = self.attempt, event.fields
        self.attempt_columns["backend"] = {k: _clean_value(f[k]) for k in ("engine", "python") if k in f}
        pid = _whole(f.get("pid"))
        if attempt.pid is None and pid:
            self.attempt_columns |= {"pid": pid, "pgid": pid, "process_start": _real(f.get("process_start"))}
        if attempt.state == AttemptState.STARTING:
            move(attempt, AttemptState.RUNNING, fence=self.fence)
        if self.job.state == JobState.STARTING:
            move(self.job, JobState.RUNNING, only_from={JobState.STARTING}, fence=self.fence)

    def machine(self, event: Event) -> None:
        known = {**(self.attempt.backend or {}), **self.attempt_columns.get("backend", {})}
        self.attempt_columns["backend"] = known | _clean_value(event.fields)

    def memory(self, event: Event) -> None:
        known = {**(self.attempt.backend or {}), **self.attempt_columns.get("backend", {})}
        before = known.get("memory_plan") or {}
        self.attempt_columns["backend"] = known | {"memory_plan": before | _clean_value(event.fields)}

    def phase(self, event: Event) -> None:
        name = clean(event.fields.get("name"), 40)
        done, total = _real(event.fields.get("done")), _real(event.fields.get("total"))
        self.job_columns["phase"] = name
        payload: dict[str, Any] = {"phase": name, "detail": clean(event.fields.get("detail"), 200)}
        if total and total > 0:
            payload |= {"done": done or 0, "total": total}
            if name == "train":
                self._total(int(total))
            self.job_columns["progress"] = min(1.0, max(0.0, (done or 0) / total))
        # A download reports many times a second; only its newest state in a batch is news.
        if self.news and self.news[-1][0] == "state" and self.news[-1][1].get("phase") == name:
            self.news.pop()
        self.tell("state", **payload)

    def metrics(self, event: Event) -> None:
        step = _whole(event.fields.get("step"))
        if step is None:
            self.curves.refused += 1
            return
        values = event.fields.get("values")
        first = isinstance(values, dict) and "train_loss" in values and not self.attempt.step
        if first and step <= self.curves.end("train_loss"):
            self._went_further_back(step - 1)
        self._total(_whole(event.fields.get("of")) or 0)
        self._points(event, step)
        self.attempt.step = self.attempt_columns["step"] = step
        self.attempt_columns["progress_at"] = timezone.now()
        self.job_columns["step"] = step
        if self.job.total_steps:
            self.job_columns["progress"] = min(1.0, step / self.job.total_steps)

    def evaluated(self, event: Event) -> None:
        step = _whole(event.fields.get("step"))
        if step is None:
            self.curves.refused += 1
            return
        self._points(event, step, evaluated=True)

    def sample(self, event: Event) -> None:
        f = event.fields
        step, index = _whole(f.get("step")), _whole(f.get("index"))
        if step is None or index is None or index > 63:
            return
        row = {
            "prompt": clean(f.get("prompt"), MAX_TEXT),
            "text": clean(f.get("text"), MAX_TEXT),
            "reference": clean(f.get("reference"), MAX_TEXT),
            "tokens": _whole(f.get("tokens")) or 0,
            "seconds": _real(f.get("seconds")) or 0.0,
        }
        Sample.objects.update_or_create(job=self.job, step=step, index=index, defaults=row)
        self.tell("sample", step=step, index=index, **row)

    def checkpoint(self, event: Event) -> None:
        f = event.fields
        step, path = _whole(f.get("step")), clean(f.get("path"), 120)
        if step is None or not CHECKPOINT_PATH.match(path):
            self.tell("log", level="warning", message="A checkpoint with a strange path was left out.")
            return
        self.curves.save()
        loss = _real(f.get("val_loss"))
        metric = self.curves.metrics.get("val_loss")
        if loss is None and metric is not None and metric.last_step == step:
            loss = metric.last_value
        row = {
            "attempt": self.attempt.n,
            "path": path,
            "bytes": _whole(f.get("bytes"), 2**62) or 0,
            "sha256": clean(f.get("sha256"), 64),
            "val_loss": loss,
            "removed_at": None,
            "created_at": timezone.now(),
        }
        Checkpoint.objects.update_or_create(job=self.job, step=step, defaults=row)
        rescore(self.job.pk)
        self.tell("state", checkpoint={"step": step, "path": path, "bytes": row["bytes"], "val_loss": loss})

    def removed(self, event: Event) -> None:
        path = clean(event.fields.get("path"), 120)
        rows = Checkpoint.objects.filter(job=self.job, path=path, removed_at=None)
        if rows.update(removed_at=timezone.now(), is_best=False):
            rescore(self.job.pk)
            self.tell("state", removed=path)

    def log(self, event: Event) -> None:
        self.logs += 1
        if self.logs <= MAX_LOGS:
            level = clean(event.fields.get("level"), 10)
            level = level if level in {"info", "warning", "error"} else "info"
            self.tell("log", level=level, message=clean(event.fields.get("message"), 4000))

    def finished(self, event: Event) -> None:
        result = event.fields.get("result")
        self.job_columns["result"] = _clean_value(result) if isinstance(result, dict) else {}

    def failed(self, event: Event) -> None:
        f = event.fields
        problems = f.get("problems")
        kept = problems[:200] if isinstance(problems, list) else []
        self.job_columns["result"] = {"problems": _clean_value(kept), "trace": clean(f.get("trace"), MAX_TEXT)}
        self.tell("log", level="error", message=clean(f"{f.get('message', '')} {f.get('hint', '')}".strip(), 4000))

    def _total(self, steps: int) -> None:
        if 0 < steps <= MAX_STEP and steps != self.job.total_steps:
            self.job_columns["total_steps"] = self.job.total_steps = steps

    def _points(self, event: Event, step: int, **extra: Any) -> None:
        raw, time = event.fields.get("values"), _real(event.t) or 0.0
        values = {}
        for name, value in raw.items() if isinstance(raw, dict) else ():
            point = Point(str(name), step, _real(value), time)
            if self.curves.accept(point):
                values[point.name] = point.value
        if values:
            self.tell("metric", step=step, values=values, time=time, **extra)

    def _went_further_back(self, step: int) -> None:
        """The engine did not trust the newest checkpoint and took an older one: forget what lies after it."""
        self.flush()
        self.curves.save()
        truncate(self.job, step, fence=self.fence)
        self.attempt_columns["first_step"] = self.attempt.first_step = step
        self.curves = Curves.of(self.job.pk)


HANDLERS: dict[str, Callable[[_Batch, Event], None]] = {
    "started": _Batch.started,
    "machine": _Batch.machine,
    "memory": _Batch.memory,
    "phase": _Batch.phase,
    "metrics": _Batch.metrics,
    "evaluated": _Batch.evaluated,
    "sample": _Batch.sample,
    "checkpoint": _Batch.checkpoint,
    "removed": _Batch.removed,
    "log": _Batch.log,
    "finished": _Batch.finished,
    "failed": _Batch.failed,
}


def clean(value: Any, length: int) -> str:
    """A foreign text without terminal escapes and control characters, cut to ``length``."""
    if value is None:
        return ""
    text = str(value)[: 4 * length]
    text = ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    # A lone surrogate cannot be stored as UTF-8.
    return CONTROLS.sub("", text).encode("utf-8", "replace").decode()[:length]


def _clean_value(value: Any, depth: int = 0) -> Any:
    """A foreign JSON value of bounded depth and size."""
    if depth > 8:
        return None
    if isinstance(value, dict):
        return {clean(k, 120): _clean_value(v, depth + 1) for k, v in list(value.items())[:500]}
    if isinstance(value, list):
        return [_clean_value(v, depth + 1) for v in value[:1000]]
    if isinstance(value, str):
        return clean(value, MAX_TEXT)
    if value is None or isinstance(value, bool | int):
        return value
    return _real(value)


def _real(value: Any) -> float | None:
    """A finite number, or None; a whole number may lie beyond every float."""
    try:
        return number(value)
    except OverflowError:
        return None


def _whole(value: Any, most: int = MAX_STEP) -> int | None:
    """A whole number from 0 to ``most``, or None."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        return None
    return value
