"""What is thrown away, and when: the trash after seven days, forgotten uploads, events that pages no longer need.

Only folders whose row says so are removed, each below the data folder, and no link is followed.
"""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Max, ProtectedError
from django.utils import timezone

from registry.models import ModelVersion, RegisteredModel
from training.models import Dataset, DatasetVersion, Job, JobEvent
from training.states import ENDED, JobState

log = logging.getLogger(__name__)

TRASH_DAYS = timedelta(days=7)
UPLOAD_SECONDS = 7 * 24 * 3600
EVENTS_KEPT = timedelta(days=1)  # after a job's end; its points and its log stay


def run() -> None:
    """Everything there is to do now."""
    empty_trash()
    sweep_uploads()
    prune_events()


def empty_trash() -> None:
    """Delete jobs, data sets and models that have lain in the trash for seven days, rows first."""
    before = timezone.now() - TRASH_DAYS
    for job in Job.objects.filter(deleted_at__lt=before, state__in=ENDED):
        _forget(job, [Path("runs") / str(job.pk)])
    for dataset in Dataset.objects.filter(deleted_at__lt=before):
        if Job.objects.filter(dataset_version__dataset=dataset).exists():
            continue  # a job's record names it
        hashes = set(dataset.versions.values_list("sha256", flat=True))
        shared = DatasetVersion.objects.filter(sha256__in=hashes).exclude(dataset=dataset)
        hashes -= set(shared.values_list("sha256", flat=True))
        _forget(dataset, [Path("datasets") / sha256 for sha256 in hashes])
    for model in RegisteredModel.objects.filter(deleted_at__lt=before):
        if Job.objects.filter(model_version__model=model).exists():
            continue
        paths = ModelVersion.objects.filter(model=model).values_list("path", flat=True)
        _forget(model, [Path(path) for path in paths])


def sweep_uploads() -> None:
    """Remove uploads that are a week old: their import is long done or was never asked for.

    A file that a waiting job still names stays.
    """
    folder = Path(settings.HOME) / "uploads"
    wanted = {str(s.get("source", {}).get("path", "")) for s in _open_settings()}
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_symlink() or not _is_uuid(entry.name) or time.time() - entry.stat().st_mtime < UPLOAD_SECONDS:
            continue
        if not any(path.startswith(str(entry)) for path in wanted):
            shutil.rmtree(entry, ignore_errors=True)


def prune_events() -> None:
    """Drop the events of jobs that ended a day ago; a page that still has an older cursor gets a snapshot."""
    before = timezone.now() - EVENTS_KEPT
    for job in Job.objects.filter(state__in=ENDED, ended_at__lt=before):
        with transaction.atomic():
            rows = JobEvent.objects.filter(job=job, kind__in=("metric", "truncate"), at__lt=before)
            top = rows.aggregate(top=Max("seq"))["top"]
            if top is not None and top > job.pruned_to:
                rows.delete()
                Job.objects.filter(pk=job.pk).update(pruned_to=top)


def _forget(row: Job | Dataset | RegisteredModel, folders: list[Path]) -> None:
    """Delete a row with all that hangs on it, then its folders. A row that something else needs stays."""
    try:
        row.delete()
    except ProtectedError:
        return
    home = Path(settings.HOME)
    for folder in folders:
        path = home / folder
        if ".." in folder.parts or path.is_symlink() or not path.resolve().is_relative_to(home.resolve()):
            log.error("%s lies outside of the data folder and is left alone.", path)
            continue
        shutil.rmtree(path, ignore_errors=True)


def _open_settings() -> list[dict[str, dict[str, object]]]:
    rows = Job.objects.filter(deleted_at=None).exclude(state=JobState.SUCCEEDED)
    return list(rows.exclude(kind=Job.Kind.TRAIN).values_list("settings", flat=True))


def _is_uuid(name: str) -> bool:
    try:
        uuid.UUID(name)
    except ValueError:
        return False
    return True
