"""What a new worker does with what an old one left: adopt the living, bury the dead."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from tests.training.runs import free_slots, make_job, points, seqs_are_dense, wait, wait_state, wait_step
from training import process
from training.dispatch import claim, make_slots
from training.models import Attempt
from training.recovery import Clock, unlock, unwatched
from training.supervisor import Supervisor
from training.watch import watch_lock


@pytest.fixture
def heir(transactional_db):
    """The worker that comes after."""
    boss = Supervisor()
    yield boss
    boss.abandon()


def test_a_living_engine_is_adopted(supervisor, heir, fake_engine):
    fake_engine("slow")
    job = make_job()
    supervisor.start()
    wait_step(job, 15)
    supervisor.abandon()
    fence = job.attempt.fence
    heir.start()
    (job.run_dir.root / "go").touch()
    wait_state(job, "succeeded")
    assert job.attempts.count() == 1 and job.attempt.fence == fence + 1
    assert points(job) == list(range(1, 41)) and seqs_are_dense(job) and free_slots()


def test_an_adopted_engine_obeys(supervisor, heir, fake_engine):
    fake_engine("slow")
    job = make_job()
    supervisor.start()
    wait_step(job, 15)
    supervisor.abandon()
    heir.start()
    type(job).objects.filter(pk=job.pk).update(stop_requested_at=timezone.now())
    assert wait_state(job, "stopped").checkpoints.filter(step=15).exists()


def test_an_engine_that_finished_while_nobody_watched_has_succeeded(supervisor, heir, fake_engine):
    fake_engine("slow")
    job = make_job()
    supervisor.start()
    wait_step(job, 15)
    supervisor.abandon()
    (job.run_dir.root / "go").touch()
    wait(lambda: process.find(job.run_dir) is None)
    heir.start()
    wait_state(job, "succeeded")
    assert points(job) == list(range(1, 41)) and job.attempts.count() == 1


def test_an_engine_that_died_while_nobody_watched_is_replaced(supervisor, heir, fake_engine):
    fake_engine("slow")
    job = make_job()
    supervisor.start()
    wait_step(job, 15)
    supervisor.abandon()
    os.killpg(job.attempt.pid, signal.SIGKILL)
    (job.run_dir.root / "go").touch()
    heir.start()
    wait_state(job, "succeeded")
    assert [a.state for a in job.attempts.order_by("n")] == ["lost", "succeeded"]
    assert points(job) == list(range(1, 41)) and job.attempt.first_step == 10


def test_spawned_but_its_number_never_stored(supervisor, heir, fake_engine):
    fake_engine("slow")
    job = make_job()
    supervisor.start()
    wait_step(job, 15)
    supervisor.abandon()
    pid = job.attempt.pid
    Attempt.objects.update(pid=None, pgid=None, process_start=None)
    heir.start()
    (job.run_dir.root / "go").touch()
    wait_state(job, "succeeded")
    assert process.find(job.run_dir) is None and pid and job.attempts.count() == 1


def test_claimed_but_never_spawned(heir, fake_engine):
    fake_engine("good")
    make_slots()
    job = make_job()
    attempt = claim("device")
    Attempt.objects.filter(pk=attempt.pk).update(started_at=timezone.now() - timedelta(seconds=10))
    heir.start()
    wait_state(job, "succeeded")
    assert [a.state for a in job.attempts.order_by("n")] == ["lost", "succeeded"]


def test_a_machine_that_restarted_has_no_engines(supervisor, heir, fake_engine, monkeypatch):
    fake_engine("slow")
    job = make_job()
    supervisor.start()
    wait_step(job, 15)
    supervisor.abandon()
    os.killpg(job.attempt.pid, signal.SIGKILL)
    # The number now belongs to a process of the new boot: this one.
    Attempt.objects.update(boot_id="the boot before", pid=os.getpid(), pgid=os.getpid())
    (job.run_dir.root / "go").touch()
    heir.start()
    wait_state(job, "succeeded")


def test_a_watched_attempt_is_left_alone(heir, db):
    make_slots()
    make_job()
    attempt = claim("device")
    lock = watch_lock(attempt)
    Attempt.objects.update(started_at=timezone.now() - timedelta(hours=1))
    assert list(unwatched(set(), False)) == []
    unlock(lock)
    found = list(unwatched(set(), False))
    assert [orphan.attempt.pk for orphan in found] == [attempt.pk] and found[0].engine is None
    unlock(found[0].lock)


@pytest.mark.parametrize(("age", "jumped", "taken"), [(5, False, 0), (500, False, 1), (500, True, 0)])
def test_another_hosts_attempt_has_a_lease(db, age, jumped, taken):
    make_slots()
    make_job()
    claim("device")
    Attempt.objects.update(host="elsewhere", pid=1, heartbeat_at=timezone.now() - timedelta(seconds=age))
    found = list(unwatched(set(), jumped))
    assert len(found) == taken
    for orphan in found:
        unlock(orphan.lock)


def test_the_clock_notices_a_jump_once(monkeypatch):
    clock = Clock()
    assert not clock.jumped()
    real = time.time
    monkeypatch.setattr("training.recovery.time.time", lambda: real() + 7200)
    assert clock.jumped() and not clock.jumped()
