"""Curves: points, their rollups, and cutting them off where a resumed run goes on.

A point is accepted when its name and step are sane and its step is beyond the curve's last one; so a
line that is read twice changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from training.engine.catalog.charts import quantity
from training.goals import goal_of, is_better
from training.models import Checkpoint, Job, JobEvent, Metric, MetricPoint, MetricRollup, Sample
from training.models.results import ROLLUP_SIZES

NAME = re.compile(r"^[a-z][a-z0-9_./-]{0,59}$")
MAX_METRICS = 64
MAX_STEP = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one curve; ``value`` None stands for NaN and infinity, ``t`` is UTC seconds."""

    name: str
    step: int
    value: float | None
    t: float


@dataclass(slots=True)
class Curves:
    """A job's curves while one batch is written; call :meth:`accept` for each point, then :meth:`save` once."""

    job_id: Any
    metrics: dict[str, Metric] = field(default_factory=dict)
    _ends: dict[str, int] = field(default_factory=dict)
    _accepted: list[Point] = field(default_factory=list)
    refused: int = 0

    @classmethod
    def of(cls, job_id: Any) -> Curves:
        """The curves as they stand in the database."""
        metrics = {metric.name: metric for metric in Metric.objects.filter(job_id=job_id)}
        return cls(job_id, metrics, {name: metric.last_step for name, metric in metrics.items()})

    def end(self, name: str) -> int:
        """Last step of a curve; -1 when it has none."""
        return self._ends.get(name, -1)

    def accept(self, point: Point) -> bool:
        """Whether the point is taken."""
        known = point.name in self._ends
        fits = known or (len(self._ends) < MAX_METRICS and NAME.match(point.name) is not None)
        if not fits or not self.end(point.name) < point.step <= MAX_STEP:
            self.refused += 1
            return False
        self._ends[point.name] = point.step
        self._accepted.append(point)
        return True

    def save(self) -> None:
        """Write what was accepted. Call it inside the batch's transaction."""
        if not self._accepted:
            return
        for name in {p.name for p in self._accepted} - set(self.metrics):
            self.metrics[name] = Metric.objects.create(job_id=self.job_id, name=name)
        touched = {}
        for point in self._accepted:
            metric = touched[point.name] = self.metrics[point.name]
            metric.last_step, metric.last_value = point.step, point.value
            if point.value is not None and is_better(point.name, point.value, metric.best_value):
                metric.best_step, metric.best_value = point.step, point.value
        _many(INSERT_POINT, [(self.metrics[p.name].pk, p.step, p.value, p.t) for p in self._accepted])
        _many(
            UPDATE_METRIC,
            [(m.last_step, m.last_value, m.best_step, m.best_value, m.pk) for m in touched.values()],
        )
        _roll_up([(self.metrics[p.name].pk, p.step, p.value) for p in self._accepted])
        self._accepted = []


def truncate(job: Job, step: int, *, fence: int | None = None) -> None:
    """Forget everything after ``step``, because the run goes on from there, and append the ``truncate`` event.

    Checkpoints after it are set aside: the engine did not accept them.
    """
    with transaction.atomic():
        MetricPoint.objects.filter(metric__job=job, step__gt=step).delete()
        Sample.objects.filter(job=job, step__gt=step).delete()
        late = Checkpoint.objects.filter(job=job, step__gt=step, removed_at=None)
        late.update(removed_at=timezone.now(), is_best=False)
        for metric in Metric.objects.filter(job=job):
            _cut(metric, step)
        total = job.total_steps
        Job.objects.filter(pk=job.pk).update(step=step, progress=min(1.0, step / total) if total else 0.0)
        JobEvent.objects.append(job.pk, [("truncate", {"step": step})], fence=fence)


def _cut(metric: Metric, step: int) -> None:
    """Bring a curve's row and rollups in line after the points beyond ``step`` went."""
    last = metric.points.order_by("-step").first()
    if last is None:
        metric.delete()
        return
    way = "-value" if quantity(metric.name).better == "more" else "value"
    best = metric.points.filter(value__isnull=False).order_by(way, "step").first()
    metric.last_step, metric.last_value = last.step, last.value
    metric.best_step, metric.best_value = (best.step, best.value) if best else (None, None)
    metric.save(update_fields=["last_step", "last_value", "best_step", "best_value"])
    broken, first = Q(), step + 1
    for size in ROLLUP_SIZES:
        bucket = (step + 1) // size
        broken |= Q(size=size, bucket__gte=bucket)
        first = min(first, bucket * size)
    metric.rollups.filter(broken).delete()
    kept = metric.points.filter(step__gte=first).order_by("step").values_list("step", "value")
    whole = {size: (step + 1) // size for size in ROLLUP_SIZES}
    _roll_up([(metric.pk, at, value) for at, value in kept.iterator()], whole)


def _roll_up(points: Iterable[tuple[int, int, float | None]], first_bucket: dict[int, int] | None = None) -> None:
    """Merge ``(metric id, step, value)`` triples, in order of step, into the buckets of every size.

    ``first_bucket``: of each size, buckets before this one are complete and stay untouched.
    """
    buckets: dict[tuple[int, int, int], _Bucket] = {}
    for metric_id, step, value in points:
        for size in ROLLUP_SIZES:
            key = (metric_id, size, step // size)
            if first_bucket is None or key[2] >= first_bucket[size]:
                buckets.setdefault(key, _Bucket()).add(step, value)
    _many(UPSERT_ROLLUP, [(*key, *bucket.row) for key, bucket in buckets.items()])


@dataclass(slots=True)
class _Bucket:
    """What new points add to a bucket."""

    low: float | None = None
    high: float | None = None
    total: float = 0.0
    n: int = 0
    last: float | None = None
    last_step: int = 0

    def add(self, step: int, value: float | None) -> None:
        self.last, self.last_step = value, step
        if value is None:
            return
        self.low = value if self.low is None else min(self.low, value)
        self.high = value if self.high is None else max(self.high, value)
        self.total += value
        self.n += 1

    @property
    def row(self) -> tuple[float | None, ...]:
        return self.low, self.high, self.total, self.n, self.last, self.last_step


# Plain SQL, the same on SQLite and PostgreSQL, for the three tables that grow with every step: through the
# ORM one line of nine values took 29 ms of a core, which the training needs.
_POINT, _METRIC, _ROLLUP = (table._meta.db_table for table in (MetricPoint, Metric, MetricRollup))
INSERT_POINT = f"INSERT INTO {_POINT} (metric_id, step, value, t) VALUES (%s, %s, %s, %s)"  # noqa: S608 - our own names
UPDATE_METRIC = f"UPDATE {_METRIC} SET last_step = %s, last_value = %s, best_step = %s, best_value = %s WHERE id = %s"  # noqa: S608


def _better(column: str, sign: str) -> str:
    """The smaller or greater of what stands there and what comes, where either may be nothing."""
    old, new = f"{_ROLLUP}.{column}", f"excluded.{column}"
    return f"{column} = CASE WHEN {new} IS NULL OR {old} {sign} {new} THEN {old} ELSE {new} END"


UPSERT_ROLLUP = (
    f"INSERT INTO {_ROLLUP} (metric_id, size, bucket, low, high, total, n, last, last_step) "  # noqa: S608
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (metric_id, size, bucket) DO UPDATE SET "
    f"{_better('low', '<=')}, {_better('high', '>=')}, total = {_ROLLUP}.total + excluded.total, "
    f"n = {_ROLLUP}.n + excluded.n, last = excluded.last, last_step = excluded.last_step"
)


def _many(sql: str, rows: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(sql, rows)


def rescore(job_id: Any) -> None:
    """Mark the present checkpoint that did best on the held-out rows: least loss, or greatest reward."""
    present = Checkpoint.objects.filter(job_id=job_id, removed_at=None)
    goal = goal_of(Job.objects.get(pk=job_id))
    if goal == "loss":
        best = present.filter(val_loss__isnull=False).order_by(F("val_loss"), F("step")).first()
    else:
        points = MetricPoint.objects.filter(metric__job_id=job_id, metric__name=f"val_{goal}", value__isnull=False)
        steps = points.filter(step__in=present.values("step")).order_by("-value", "step").values_list("step", flat=True)
        top: int | None = steps.first()
        best = present.filter(step=top).first() if top is not None else None
    if best is not None and not best.is_best:
        present.filter(is_best=True).update(is_best=False)
        present.filter(pk=best.pk).update(is_best=True)
