"""Curves as charts want them: at most so many buckets, each with its least, greatest and last value.

A spike of one step survives any zoom: long ranges are read from the rollups that ingestion keeps,
short ones from the points themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Max, Q

from training.models import Job, Metric, MetricPoint, MetricRollup
from training.models.results import ROLLUP_SIZES

MOST_BUCKETS = 5000
WINDOW = 50  # reports that the speed is taken from
SHOW_ETA_AFTER = 10  # steps of the attempt


def curves(
    job: Job, names: Iterable[str], buckets: int = 1500, start: int = 0, end: int | None = None
) -> dict[str, dict[str, Any]]:
    """``{name: {size, step, min, max, last, t}}`` for the steps from ``start`` to ``end`` (inclusive).

    ``size`` is the number of steps in a bucket (1: the points themselves); the lists are equally long.
    A value that was not finite is None, and so is ``t``, the time of a point, where buckets hold several.
    """
    buckets = max(1, min(buckets, MOST_BUCKETS))
    metrics = {metric.name: metric for metric in Metric.objects.filter(job=job, name__in=list(names))}
    return {name: _curve(metric, buckets, start, end) for name, metric in metrics.items()}


def _curve(metric: Metric, buckets: int, start: int, end: int | None) -> dict[str, Any]:
    last = metric.last_step if end is None else min(end, metric.last_step)
    points = MetricPoint.objects.filter(metric=metric, step__gte=start, step__lte=last)
    # Sparse curves such as val_loss have few points however long the run: count, but stop counting early.
    if points.order_by()[: buckets + 1].count() <= buckets:
        rows = list(points.order_by("step").values_list("step", "value", "value", "value", "t"))
        return _columns(1, rows)
    span = last - start + 1
    size = next((size for size in ROLLUP_SIZES if span <= size * buckets), ROLLUP_SIZES[-1])
    rollups = MetricRollup.objects.filter(metric=metric, size=size, bucket__range=(start // size, last // size))
    rolled = rollups.order_by("bucket").values_list("last_step", "low", "high", "last")
    return _columns(size, [(*row, None) for row in rolled])


def _columns(size: int, rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    step, low, high, last, t = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [], [])
    return {"size": size, "step": step, "min": low, "max": high, "last": last, "t": t}


def sparks(jobs: Iterable[Job], name: str = "train_loss", n: int = 200) -> dict[Any, list[float | None]]:
    """A short curve for each job, by id, for sparklines."""
    return {job.pk: curves(job, [name], n).get(name, {}).get("last", []) for job in jobs}


def marks(job: Job) -> dict[str, Any]:
    """What is drawn over the lines: steps of checkpoints that exist, steps where an attempt went on, and the end."""
    kept = job.checkpoints.filter(removed_at=None).order_by("step")
    seams = job.attempts.filter(n__gt=1, first_step__gt=0).order_by("n")
    return {
        "checkpoint": list(kept.values_list("step", flat=True)),
        "resume": list(seams.values_list("first_step", flat=True)),
        "total": job.total_steps,
    }


def remaining(jobs: Iterable[Job]) -> dict[Any, float]:
    """Seconds that each running job of ``jobs`` still needs, by id; jobs that only began are left out.

    From the clock times of the last 50 reports of this attempt, so that evaluations and checkpoints
    between them count. Two queries, whatever the number of jobs.
    """
    running = {job.pk: job for job in jobs if job.is_active and job.total_steps}
    if not running:
        return {}
    metrics = Metric.objects.filter(job__in=running, name="train_loss").annotate(
        first_step=Max("job__attempts__first_step")
    )
    wanted = Q()
    for metric in metrics:
        window = WINDOW * int(running[metric.job_id].settings.get("steps_per_report") or 1)
        wanted |= Q(metric=metric, step__gt=max(metric.last_step - window, metric.first_step or 0))
    if not wanted:
        return {}
    times: dict[Any, list[tuple[int, float]]] = {}
    points = MetricPoint.objects.filter(wanted).order_by("metric", "step")
    for job_id, step, t in points.values_list("metric__job_id", "step", "t"):
        times.setdefault(job_id, []).append((step, t))
    return {pk: left for pk, seen in times.items() if (left := _left(running[pk], seen)) is not None}


def _left(job: Job, times: list[tuple[int, float]]) -> float | None:
    (first, began), (last, ended) = times[0], times[-1]
    if last - first < min(SHOW_ETA_AFTER, max(3, job.total_steps // 4)):
        return None
    return max(0.0, (ended - began) / (last - first) * (job.total_steps - job.step))
