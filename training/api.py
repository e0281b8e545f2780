"""Jobs over the API: make, look at, end, resume, change."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Header, Query, Router, Status

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid, NotFound
from mlxplatform.core.paging import page
from training import memory_plans, services
from training.charts import MOST_BUCKETS, curves
from training.engine.catalog.kinds import KINDS
from training.engine.errors import Problem
from training.event_stream import stream
from training.logs import read_log
from training.models import Checkpoint, Job, JobEvent, Metric, Sample
from training.schemas import (
    CheckpointPage,
    EventPage,
    JobIn,
    JobOut,
    JobPage,
    JobPatch,
    Key,
    MemoryIn,
    MetricsOut,
    SamplePage,
    TrainIn,
)
from training.states import JobState

router = Router(tags=["jobs"])
MOST_EVENTS = 1000


def job_of(request: HttpRequest, job_id: UUID) -> Job:
    """The job, if the caller may see it. Raises NotFound."""
    job: Job | None = Job.objects.visible_to(request.user).filter(pk=job_id).select_related("owner").first()
    if job is None:
        raise NotFound("job.unknown", "There is no such job.", "See /api/v1/jobs.")
    return job


def _create(request: HttpRequest, body: TrainIn, key: str) -> Job:
    return services.create_training(request.user, **body.model_dump(exclude={"kind"}), idempotency_key=key)


@router.post("", response={201: JobOut}, operation_id="create_job")
def create_job(request: HttpRequest, body: JobIn, idempotency_key: str = Key) -> Any:
    """Queue a training."""
    return Status(201, _create(request, body, idempotency_key))


@router.post("/memory", operation_id="plan_memory")
def plan_memory(request: HttpRequest, body: MemoryIn) -> dict[str, Any]:
    """What a training would hold in memory, in bytes, whether that fits, and what would need less.

    One that was found not to fit is refused for ten minutes (``memory.does_not_fit``) unless ``force_memory`` is given.
    """
    require(request.user, Role.EDITOR)
    settings, model, data, others = services.checked_training(
        request.user, body.settings, body.model_version_id, body.dataset_version_id, dict(body.others)
    )
    return memory_plans.ask(settings, model, data, measure=body.measure, others=others)


@router.get("", response=JobPage, operation_id="list_jobs")
def list_jobs(
    request: HttpRequest,
    state: str = Query("", description="Only these states, comma-separated."),
    kind: str = Query("", description="Only this kind."),
    trash: bool = Query(False, description="Deleted ones instead."),
    cursor: str = "",
    limit: int = Query(50, ge=1, le=200),
) -> Any:
    """Jobs, the newest first."""
    rows = Job.objects.visible_to(request.user).select_related("owner").filter(deleted_at__isnull=not trash)
    if state:
        rows = rows.filter(state__in=_known("state", state, JobState.values))
    if kind:
        rows = rows.filter(kind__in=_known("kind", kind, list(KINDS)))
    return page(rows, "-number", cursor, limit)


def _known(name: str, text: str, values: list[str]) -> list[str]:
    asked = [word.strip() for word in text.split(",")]
    if wrong := [word for word in asked if word not in values]:
        hint = f"Known are: {', '.join(values)}."
        raise Invalid.of([Problem(("query", name), f"{name}.unknown", f"There is no {name} '{wrong[0][:40]}'.", hint)])
    return asked


@router.get("/{uuid:job_id}", response=JobOut, operation_id="get_job")
def get_job(request: HttpRequest, job_id: UUID) -> Any:
    """One job."""
    return job_of(request, job_id)


@router.patch("/{uuid:job_id}", response=JobOut, operation_id="change_job")
def change_job(request: HttpRequest, job_id: UUID, body: JobPatch) -> Any:
    """Change name, notes or priority."""
    require(request.user, Role.EDITOR)
    job = job_of(request, job_id)
    return services.change(request.user, job, **body.model_dump(exclude_none=True))


@router.delete("/{uuid:job_id}", response=JobOut, operation_id="delete_job")
def delete_job(request: HttpRequest, job_id: UUID) -> Any:
    """Put the job into the trash."""
    return services.delete(request.user, job_of(request, job_id))


@router.post("/{uuid:job_id}/restore", response=JobOut, operation_id="restore_job")
def restore_job(request: HttpRequest, job_id: UUID) -> Any:
    """Take the job out of the trash."""
    return services.restore(request.user, job_of(request, job_id))


@router.post("/{uuid:job_id}/stop", response=JobOut, operation_id="stop_job")
def stop_job(request: HttpRequest, job_id: UUID) -> Any:
    """Ask it to save a checkpoint and end."""
    return services.request_stop(request.user, job_of(request, job_id))


@router.post("/{uuid:job_id}/pause", response=JobOut, operation_id="pause_job")
def pause_job(request: HttpRequest, job_id: UUID) -> Any:
    """Ask it to save a checkpoint and wait for its resume."""
    return services.request_pause(request.user, job_of(request, job_id))


@router.post("/{uuid:job_id}/kill", response=JobOut, operation_id="kill_job")
def kill_job(request: HttpRequest, job_id: UUID) -> Any:
    """End it without a new checkpoint."""
    return services.request_kill(request.user, job_of(request, job_id))


@router.post("/{uuid:job_id}/resume", response=JobOut, operation_id="resume_job")
def resume_job(request: HttpRequest, job_id: UUID) -> Any:
    """Queue it again: same job, new attempt, from its newest checkpoint."""
    return services.resume(request.user, job_of(request, job_id))


@router.get("/{uuid:job_id}/metrics", response=MetricsOut, operation_id="get_metrics")
def get_metrics(
    request: HttpRequest,
    job_id: UUID,
    names: str = Query("", max_length=2000, description="Curves to give, comma-separated; empty: all."),
    n: int = Query(1000, ge=1, le=MOST_BUCKETS, description="Most buckets of a curve."),
    start: int = Query(0, ge=0, le=1 << 31),
    end: int | None = Query(None, ge=0, le=1 << 31),
) -> Any:
    """Curves, thinned to ``n`` buckets that keep their least and greatest value."""
    job = job_of(request, job_id)
    metrics = list(Metric.objects.filter(job=job).order_by("name"))
    asked = [name.strip() for name in names.split(",")] if names else [metric.name for metric in metrics]
    return {"metrics": metrics, "series": curves(job, asked, n, start, end)}


@router.get("/{uuid:job_id}/events", response=EventPage, operation_id="list_events")
def list_events(
    request: HttpRequest,
    job_id: UUID,
    after: int = Query(0, ge=0, le=1 << 53),
    limit: int = Query(200, ge=1, le=MOST_EVENTS),
) -> Any:
    """What happened after ``after``, in order."""
    job = job_of(request, job_id)
    rows = list(JobEvent.objects.filter(job=job, seq__gt=after).order_by("seq")[: limit + 1])
    more = len(rows) > limit
    rows = rows[:limit]
    items = [row.frame() for row in rows]
    return {"items": items, "next": rows[-1].seq if more else None, "pruned_to": job.pruned_to}


@router.get("/{uuid:job_id}/events/stream", operation_id="stream_events")
async def stream_events(
    request: HttpRequest,
    job_id: UUID,
    after: int = Query(0, ge=0, le=1 << 53),
    last_event_id: str = Header("", alias="Last-Event-ID", max_length=20),
) -> Any:
    """The same as server-sent events: each once and in order, from ``Last-Event-ID`` (or ``after``) on.

    A comment every 15 s keeps the connection; after the job's end comes one event ``end``.
    """
    since = int(last_event_id) if last_event_id.isdigit() else after
    frames = await stream(request, job_id, since)
    response = StreamingHttpResponse(frames, content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    response["X-Accel-Buffering"] = "no"
    return response


@router.get("/{uuid:job_id}/log", operation_id="get_log")
def get_log(
    request: HttpRequest,
    job_id: UUID,
    attempt: int = Query(0, ge=0, le=1 << 31, description="Number of the attempt; 0: the newest."),
    offset: int = Query(0, ge=-(1 << 20), le=1 << 53, description="Byte to begin at; negative: from the end."),
    limit: int = Query(64 << 10, ge=1, le=1 << 20, description="Most bytes."),
) -> HttpResponse:
    """The raw output as text. ``X-Next-Offset`` is the byte to go on at, ``X-Size`` the file's size."""
    block = read_log(job_of(request, job_id), attempt, offset, limit)
    response = HttpResponse(block.text, content_type="text/plain; charset=utf-8")
    response["X-Next-Offset"], response["X-Size"] = str(block.next), str(block.size)
    return response


@router.get("/{uuid:job_id}/samples", response=SamplePage, operation_id="list_samples")
def list_samples(request: HttpRequest, job_id: UUID, cursor: str = "", limit: int = Query(100, ge=1, le=200)) -> Any:
    """Answers to the fixed prompts, by step."""
    return page(Sample.objects.filter(job=job_of(request, job_id)), "step", cursor, limit)


@router.get("/{uuid:job_id}/checkpoints", response=CheckpointPage, operation_id="list_checkpoints")
def list_checkpoints(
    request: HttpRequest, job_id: UUID, cursor: str = "", limit: int = Query(100, ge=1, le=200)
) -> Any:
    """Checkpoints, the newest first."""
    return page(Checkpoint.objects.filter(job=job_of(request, job_id)), "-step", cursor, limit)
