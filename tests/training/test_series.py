from __future__ import annotations

import math
import random

import pytest

from tests.training.runs import make_job
from training.models import MetricPoint, MetricRollup
from training.series import MAX_METRICS, Curves, Point, truncate

pytestmark = pytest.mark.django_db


def record(job, points):
    curves = Curves.of(job.pk)
    taken = [point for point in points if curves.accept(Point(*point, 0.0))]
    curves.save()
    return len(taken)


def rollups_by_hand(metric):
    """What the rollup rows must say, computed from all points at once."""
    wanted = {}
    for size in (16, 256, 4096):
        for point in metric.points.order_by("step"):
            wanted.setdefault((size, point.step // size), []).append((point.step, point.value))
    return {
        key: (min(finite), max(finite), len(finite), values[-1][0], values[-1][1])
        for key, values in wanted.items()
        if (finite := [v for _, v in values if v is not None])
    }


def rollups(metric):
    return {(r.size, r.bucket): (r.low, r.high, r.n, r.last_step, r.last) for r in metric.rollups.filter(n__gt=0)}


def test_points_and_ends():
    job = make_job()
    assert record(job, [("loss", 1, 3.0), ("loss", 2, 1.0), ("loss", 3, 2.0)]) == 3
    metric = job.metrics.get()
    assert (metric.last_step, metric.last_value, metric.best_step, metric.best_value) == (3, 2.0, 2, 1.0)


@pytest.mark.parametrize("name", ["", "Loss", "a" * 61, "loss<script>", "../x", "1st"])
def test_strange_names_are_left_out(name):
    assert record(make_job(), [(name, 1, 1.0)]) == 0


def test_steps_only_go_up():
    job = make_job()
    assert record(job, [("loss", 5, 1.0), ("loss", 5, 2.0), ("loss", 4, 2.0)]) == 1
    assert record(job, [("loss", 5, 9.0), ("loss", 2**31, 1.0), ("loss", -1, 1.0)]) == 0


def test_not_more_than_64_curves():
    job = make_job()
    assert record(job, [(f"m{i}", 1, 1.0) for i in range(100)]) == MAX_METRICS
    assert record(job, [("m0", 2, 1.0), ("new", 2, 1.0)]) == 1


def test_step_0_is_a_step():
    job = make_job()
    assert record(job, [("val_loss", 0, 4.0)]) == 1
    assert record(job, [("val_loss", 0, 5.0)]) == 0


def test_rollups_in_batches_equal_rollups_at_once():
    job = make_job()
    rng, step = random.Random(1), 0
    while step < 5000:
        batch = []
        for _ in range(rng.randint(1, 700)):
            step += rng.randint(1, 3)
            batch.append(("loss", step, rng.choice([rng.random(), None])))
        record(job, batch)
    metric = job.metrics.get()
    assert rollups(metric) == rollups_by_hand(metric)


@pytest.mark.parametrize("step", [0, 15, 16, 700, 4095, 4999])
def test_truncate_rebuilds_the_rollups(step):
    job = make_job()
    record(job, [("loss", s, math.sin(s)) for s in range(5000)])
    truncate(job, step)
    metric = job.metrics.get()
    assert metric.points.count() == step + 1 and metric.last_step == step
    assert rollups(metric) == rollups_by_hand(metric)
    assert metric.best_value == min(math.sin(s) for s in range(step + 1))


def test_a_curve_without_points_is_no_curve():
    job = make_job()
    record(job, [("loss", 5, 1.0)])
    truncate(job, 4)
    assert not job.metrics.exists() and not MetricPoint.objects.exists() and not MetricRollup.objects.exists()


def test_truncate_forgets_later_samples_and_sets_checkpoints_aside():
    job = make_job()
    for step in (10, 20):
        job.samples.create(step=step, index=0, prompt="?")
        job.checkpoints.create(attempt=1, step=step, path=f"checkpoints/{step}", sha256="")
    truncate(job, 10)
    assert [s.step for s in job.samples.all()] == [10]
    assert [c.step for c in job.checkpoints.filter(removed_at=None)] == [10]
    assert job.events.get().payload == {"step": 10}
