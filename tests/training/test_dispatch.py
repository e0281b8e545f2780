from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mlxplatform.core.errors import Conflict
from tests.training.runs import make_job
from training.dispatch import claim, complete_checkpoints, make_slots, release, take_over
from training.ingest import Tail
from training.models import Attempt, DeviceSlot, Job, MetricPoint

ROOT = Path(__file__).resolve().parents[2]
RACE = """
import sys, time, django
django.setup()
from training.dispatch import claim, release
from training.models import DeviceSlot, Job
from mlxplatform.core.lifecycle import move
idle = 0
while idle < 30:
    attempt = claim("device")
    if attempt is None:
        idle = idle + 1 if not Job.objects.filter(state="queued").exists() else 0
        time.sleep(0.003)
        continue
    busy = DeviceSlot.objects.exclude(job=None).count()
    print(attempt.job.number, attempt.n, attempt.fence, busy, flush=True)
    move(attempt.job, "failed", fence=attempt.fence)
    release(attempt.job, attempt.fence)
"""
PREPARE = """
import django
django.setup()
from training.dispatch import make_slots
from training.models import Job
make_slots()
Job.objects.bulk_create(Job(number=i, name=str(i)) for i in range(1, 31))
"""


@pytest.fixture
def slots(db):
    make_slots()


def test_many_processes_claim_each_job_once(tmp_path):
    environment = {
        **os.environ,
        "MLXP_HOME": str(tmp_path),
        "MLXP_DEVICE_SLOTS": "2",
        "DJANGO_SETTINGS_MODULE": "mlxplatform.settings",
    }

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=-1, text=True)

    assert start("manage.py", "migrate", "-v", "0").wait(60) == 0
    assert start("-c", PREPARE).wait(60) == 0
    racers = [start("-c", RACE) for _ in range(3)]
    lines = [line.split() for racer in racers for line in racer.communicate(timeout=60)[0].splitlines()]
    assert Counter(int(number) for number, *_ in lines) == Counter(range(1, 31))
    assert {(n, fence) for _, n, fence, _ in lines} == {("1", "1")}
    assert max(int(busy) for *_, busy in lines) <= 2


def test_a_claim_takes_slot_fence_and_attempt(slots):
    job = make_job()
    attempt = claim("device")
    job.refresh_from_db()
    assert (job.state, job.fence, attempt.n, attempt.fence) == ("starting", 1, 1, 1)
    assert DeviceSlot.objects.get(job=job).fence == 1


def test_higher_priority_first_then_the_order_of_queueing(slots):
    numbers = {"late": make_job(name="late"), "urgent": make_job(name="urgent", priority=5)}
    assert claim("device").job == numbers["urgent"]


def test_no_slot_no_claim(slots):
    make_job()
    make_job()
    assert claim("device") is not None
    assert claim("device") is None


def test_imports_do_not_need_the_device(slots):
    make_job()
    make_job(kind="import_dataset", resource="cpu")
    assert claim("device") is not None
    assert claim("cpu").job.kind == "import_dataset"


def test_a_trashed_job_is_not_claimed(slots):
    job = make_job()
    Job.objects.filter(pk=job.pk).update(deleted_at=job.created_at)
    assert claim("device") is None


def test_a_claim_cuts_the_curves_at_the_checkpoint(slots):
    job = make_job()
    metric = job.metrics.create(name="train_loss", last_step=9)
    MetricPoint.objects.bulk_create(MetricPoint(metric=metric, step=s, value=1 / s, t=0) for s in range(1, 10))
    Attempt.objects.create(job=job, n=1, fence=0, state="lost")
    folder = job.run_dir.checkpoints / "0000004"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    attempt = claim("device")
    assert (attempt.n, attempt.first_step) == (2, 4)
    assert list(metric.points.values_list("step", flat=True)) == [1, 2, 3, 4]
    assert job.events.get(kind="truncate").payload == {"step": 4}


def test_a_released_slot_serves_the_next(slots):
    make_job()
    waiting = make_job()
    first = claim("device")
    release(first.job, first.fence)
    assert claim("device").job == waiting


def test_an_old_fence_releases_nothing(slots):
    make_job()
    attempt = claim("device")
    release(attempt.job, attempt.fence - 1)
    assert DeviceSlot.objects.exclude(job=None).count() == 1


def test_after_a_takeover_the_old_worker_writes_nothing(slots):
    make_job()
    old = claim("device")
    old.folder.root.mkdir(parents=True)
    old.folder.journal.write_text('{"n":1,"t":1,"event":"metrics","step":1,"values":{"train_loss":1}}\n')
    tail = Tail(old)
    new = take_over(Attempt.objects.get(pk=old.pk))
    with pytest.raises(Conflict):
        tail.pull()
    assert Tail(new).pull() and MetricPoint.objects.count() == 1


def test_two_takeovers_one_winner(slots):
    make_job()
    attempt = claim("device")
    stale = Attempt.objects.get(pk=attempt.pk)
    take_over(attempt)
    with pytest.raises(Conflict):
        take_over(stale)


def test_fewer_slots_than_before(slots):
    DeviceSlot.objects.create(name="device:7", resource="device")
    make_slots()
    assert not DeviceSlot.objects.filter(name="device:7").exists()


def test_only_complete_checkpoints_count(tmp_path):
    for name, complete in (("0000003", True), ("0000009", False), ("0000005-2", True), (".part-0000011", True)):
        (tmp_path / name).mkdir()
        if complete:
            (tmp_path / name / "manifest.json").write_text("{}")
    assert complete_checkpoints(tmp_path) == [3, 5]
