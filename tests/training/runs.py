"""Jobs to run in tests, and waiting for what they do."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db.models import Max

from registry.models import ModelVersion, RegisteredModel
from training.models import Attempt, Dataset, DatasetVersion, DeviceSlot, Job


def make_job(**columns) -> Job:
    """A queued training of a model and a data set that exist as rows and empty folders."""
    unique = uuid.uuid4().hex
    model, _ = RegisteredModel.objects.get_or_create(name="base")
    n = (model.versions.aggregate(top=Max("n"))["top"] or 0) + 1
    version = ModelVersion.objects.create(model=model, n=n, kind="base", path=f"models/{unique}", model_type="llama")
    data = Dataset.objects.create(name="data")
    rows = DatasetVersion.objects.create(dataset=data, n=1, sha256=unique, data_format="chat", rows_train=10)
    for folder in (version.folder, rows.folder):
        folder.mkdir(parents=True)
    number = (Job.objects.aggregate(top=Max("number"))["top"] or 0) + 1
    defaults = {"name": f"job {number}", "model_version": version, "dataset_version": rows, "settings": {"iters": 40}}
    return Job.objects.create(number=number, **{**defaults, **columns})


def wait(condition: Callable[[], object], seconds: float = 20.0) -> object:
    """Until ``condition`` is true; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"did not happen within {seconds} s")


def state(job: Job) -> str:
    return Job.objects.values_list("state", flat=True).get(pk=job.pk)


def wait_state(job: Job, *wanted: str, seconds: float = 20.0) -> Job:
    """Until the job is in one of the states; returns the row."""
    try:
        wait(lambda: state(job) in wanted, seconds)
    except AssertionError:
        job.refresh_from_db()
        raise AssertionError(f"job is {job.state} ({job.reason}: {job.message}), not {wanted}") from None
    job.refresh_from_db()
    return job


def wait_step(job: Job, step: int) -> Job:
    wait(lambda: Job.objects.filter(pk=job.pk, step__gte=step).exists())
    job.refresh_from_db()
    return job


def free_slots() -> bool:
    return not DeviceSlot.objects.exclude(job=None).exists()


def points(job: Job, name: str = "train_loss") -> list[int]:
    """Steps of a curve's points."""
    return list(job.metrics.get(name=name).points.order_by("step").values_list("step", flat=True))


def kill_engines() -> None:
    """Kill every engine that this test run's rows know."""
    for pid in Attempt.objects.filter(ended_at=None).exclude(pid=None).values_list("pid", flat=True):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def seqs_are_dense(job: Job) -> bool:
    job.refresh_from_db()
    return list(job.events.order_by("seq").values_list("seq", flat=True)) == list(range(1, job.last_seq + 1))


def runs_folder() -> Path:
    return Path(settings.HOME) / "runs"
