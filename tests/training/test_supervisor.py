"""The road of a job through the worker, driven by engines that behave and engines that do not."""

from __future__ import annotations

import os
import signal

from django.utils import timezone

from tests.training.runs import free_slots, make_job, points, seqs_are_dense, wait, wait_state, wait_step
from training.models import Job
from training.process import find


def test_a_job_runs_to_its_end(supervisor, fake_engine):
    fake_engine("good")
    job = make_job()
    supervisor.start()
    wait_state(job, "succeeded")
    assert points(job) == list(range(1, 41))
    assert job.attempt.state == "succeeded" and job.attempt.exit_code == 0
    assert job.progress == 1.0 and job.total_steps == 40
    assert free_slots() and seqs_are_dense(job)


def test_stop_keeps_a_checkpoint(supervisor, fake_engine):
    fake_engine("slow")
    job = make_job()
    supervisor.start()
    wait_step(job, 15)
    Job.objects.filter(pk=job.pk).update(stop_requested_at=timezone.now())
    wait_state(job, "stopped")
    assert job.attempt.state == "stopped" and job.attempt.exit_code == 10
    assert job.checkpoints.first().step == 15 and free_slots()


def test_pause_ends_paused(supervisor, fake_engine):
    fake_engine("slow")
    job = make_job()
    supervisor.start()
    wait_step(job, 15)
    Job.objects.filter(pk=job.pk).update(pause_requested_at=timezone.now())
    assert wait_state(job, "paused").reason == "paused"


def test_kill_does_not_wait(supervisor, fake_engine):
    fake_engine("deaf")
    job = make_job()
    supervisor.start()
    wait_step(job, 12)
    Job.objects.filter(pk=job.pk).update(kill_requested_at=timezone.now())
    wait_state(job, "stopped", seconds=5)
    assert job.attempt.exit_signal == signal.SIGKILL


def test_a_deaf_engine_is_killed_with_its_grandchild(supervisor, fake_engine, monkeypatch):
    fake_engine("deaf")
    monkeypatch.setattr("training.watch.Watch.grace", lambda self, job: 0.3)
    job = make_job()
    supervisor.start()
    wait_step(job, 12)
    grandchild = int(wait(lambda: job.events.filter(kind="log", payload__message__startswith="grandchild").first())
                     .payload["message"].split()[1])  # fmt: skip
    Job.objects.filter(pk=job.pk).update(stop_requested_at=timezone.now())
    wait_state(job, "stopped")
    wait(lambda: not _alive(grandchild))
    assert job.events.filter(kind="log", payload__message__icontains="it is killed").exists()


def test_a_torn_line_and_a_death_resume_from_the_checkpoint(supervisor, fake_engine):
    fake_engine("torn")
    job = make_job()
    supervisor.start()
    wait_state(job, "succeeded")
    first, second = job.attempts.order_by("n")
    assert (first.state, second.state, second.first_step) == ("lost", "succeeded", 10)
    assert points(job) == list(range(1, 41))
    assert job.events.get(kind="truncate").payload == {"step": 10}
    assert seqs_are_dense(job)


def test_two_deaths_at_one_step_are_poison(supervisor, fake_engine):
    fake_engine("dies")
    job = make_job()
    supervisor.start()
    wait_state(job, "failed")
    assert job.reason == "poisoned" and job.attempts.count() == 2 and free_slots()


def test_three_losses_without_a_checkpoint_are_enough(supervisor, fake_engine):
    fake_engine("crash_before_started")
    job = make_job()
    supervisor.start()
    wait_state(job, "failed")
    assert job.reason == "lost" and job.attempts.count() == 3
    assert "Segmentation fault" in job.message


def test_a_silent_end_is_a_loss(supervisor, fake_engine):
    fake_engine("silent")
    job = make_job()
    supervisor.start()
    assert wait_state(job, "failed").reason == "lost"


def test_a_diverged_training_fails_with_its_own_words(supervisor, fake_engine):
    fake_engine("diverged")
    job = make_job()
    supervisor.start()
    wait_state(job, "failed")
    assert (job.reason, job.hint) == ("diverged.loss", "Lower the rate.")
    assert job.result["problems"][0]["loc"] == ["learning_rate"] and job.attempts.count() == 1


def test_an_exit_code_without_a_word_fails_with_the_output(supervisor, fake_engine):
    fake_engine("wrong_config")
    job = make_job()
    supervisor.start()
    wait_state(job, "failed")
    assert job.reason == "config.no_word" and "too high" in job.message


def test_a_config_that_cannot_be_run_never_starts_a_process(supervisor):
    job = make_job(settings={"learning_rate": -1, "batch_size": 0})
    supervisor.start()
    wait_state(job, "failed")
    assert {p["loc"][0] for p in job.result["problems"]} == {"learning_rate", "batch_size"}
    assert job.attempt.pid is None and free_slots()


def test_drain_puts_the_job_back_and_the_next_worker_goes_on(supervisor, fake_engine):
    fake_engine("slow")
    job = make_job()
    supervisor.start()
    wait_step(job, 15)
    assert supervisor.stop(patience=20)
    job.refresh_from_db()
    assert (job.state, job.attempt.state, job.reason) == ("queued", "drained", "drained")
    assert free_slots() and find(job.run_dir) is None


def test_one_device_runs_one_job_at_a_time(supervisor, fake_engine):
    fake_engine("slow")
    first, second = make_job(), make_job()
    supervisor.start()
    wait_step(first, 15)
    second.refresh_from_db()
    assert second.state == "queued"
    (first.run_dir.root / "go").touch()
    wait_state(first, "succeeded")
    wait_step(second, 15)


def test_an_engine_that_hangs_after_its_last_word_is_ended(supervisor, fake_engine, monkeypatch):
    fake_engine("lingering")
    monkeypatch.setattr("training.watch.AFTER_WORD", 0.1)
    monkeypatch.setattr("training.watch.HEARTBEAT_EVERY", 0.1)
    job = make_job()
    supervisor.start()
    assert wait_state(job, "succeeded").attempt.exit_signal == signal.SIGKILL


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_chatty_engine_is_read_to_the_end(supervisor, fake_engine):
    fake_engine("chatty")
    job = make_job()
    supervisor.start()
    wait_state(job, "succeeded", seconds=60)
    assert points(job) == list(range(1, 10_001)) and seqs_are_dense(job)
    logs = job.events.filter(kind="log")
    assert logs.count() < 10_000 and not logs.filter(payload__message__icontains="\x1b").exists()
