from __future__ import annotations

import os
import uuid
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from tests.training.runs import make_job
from training import housekeeping
from training.models import Dataset, DatasetVersion, Job

pytestmark = pytest.mark.django_db
LONG_AGO = timezone.now() - timedelta(days=8)


def ended(**columns) -> Job:
    job = make_job(**columns)
    Job.objects.filter(pk=job.pk).update(state="stopped", ended_at=LONG_AGO)
    job.run_dir.root.mkdir(parents=True)
    job.refresh_from_db()
    return job


def test_a_job_is_gone_after_seven_days_in_the_trash():
    old, fresh = ended(), ended()
    Job.objects.filter(pk=old.pk).update(deleted_at=LONG_AGO)
    Job.objects.filter(pk=fresh.pk).update(deleted_at=timezone.now())
    housekeeping.run()
    assert list(Job.objects.all()) == [fresh]
    assert not old.run_dir.root.exists() and fresh.run_dir.root.exists()


def test_a_link_in_place_of_a_run_folder_is_not_followed(tmp_path):
    job = ended(deleted_at=LONG_AGO)
    (tmp_path / "precious").touch()
    job.run_dir.root.rmdir()
    job.run_dir.root.symlink_to(tmp_path)
    housekeeping.empty_trash()
    assert (tmp_path / "precious").exists()


def test_data_that_another_set_shares_stays():
    folder = settings.HOME / "datasets" / "5hared"
    folder.mkdir(parents=True, exist_ok=True)
    for deleted in (LONG_AGO, None):
        dataset = Dataset.objects.create(name="d", deleted_at=deleted)
        DatasetVersion.objects.create(dataset=dataset, n=1, sha256="5hared", data_format="chat")
    housekeeping.empty_trash()
    assert Dataset.objects.count() == 1 and folder.exists()
    Dataset.objects.update(deleted_at=LONG_AGO)
    housekeeping.empty_trash()
    assert not folder.exists()


def test_data_that_a_job_names_stays():
    job = make_job()
    Dataset.objects.update(deleted_at=LONG_AGO)
    housekeeping.empty_trash()
    assert job.dataset_version.folder.exists() and Dataset.objects.exists()


def test_old_uploads_go_and_awaited_ones_stay():
    folders = {name: settings.HOME / "uploads" / str(uuid.uuid4()) for name in ("old", "awaited", "fresh")}
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        if name != "fresh":
            os.utime(folder, (1, 1))
    source = {"kind": "file", "path": str(folders["awaited"] / "rows.jsonl")}
    make_job(kind="import_dataset", settings={"source": source})
    housekeeping.sweep_uploads()
    assert {name for name, folder in folders.items() if folder.exists()} == {"awaited", "fresh"}


def test_events_are_pruned_and_the_cursor_moves():
    job = ended()
    for seq, kind in enumerate(["state", "metric", "metric", "log"], 1):
        job.events.create(seq=seq, kind=kind, at=LONG_AGO)
    housekeeping.prune_events()
    job.refresh_from_db()
    assert job.pruned_to == 3 and list(job.events.values_list("seq", flat=True)) == [1, 4]
