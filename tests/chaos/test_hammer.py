"""The same accident again and again, and a database that will not take writes: nothing is lost and nothing doubled."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time

import pytest

from tests.chaos.house import House

pytestmark = pytest.mark.chaos
STEPS = 300


@pytest.fixture
def house(tmp_path):
    place = House(tmp_path)
    yield place
    place.close()


def everything_is_there(house, job):
    """Each step's point once, each event once and in order."""
    house.wait_end(job)
    assert house.steps(job) == list(range(1, STEPS + 1))
    key = job.replace("-", "")
    seqs = [row[0] for row in house.query("SELECT seq FROM training_jobevent WHERE job_id=? ORDER BY seq", key)]
    assert seqs == list(range(1, len(seqs) + 1))
    told = house.query("SELECT payload FROM training_jobevent WHERE job_id=? AND kind='metric'", key)
    steps = [row[0].split('"step": ')[1].split(",")[0] for row in told if "train_loss" in row[0]]
    assert steps == [str(i) for i in range(1, STEPS + 1)]
    assert len(house.attempts(job)) == 1
    assert house.end() == 0 and house.processes() == []


def test_a_worker_that_is_killed_over_and_over(house):
    house.serve()
    job = house.add_job(iters=STEPS, save_every=50, steps_per_eval=100)
    house.wait_step(job, 1)
    rng, kills = random.Random(7), 0
    while house.job(job)["step"] < STEPS - 30 and kills < 7:  # the launcher gives up after eight in a row
        house.kill("worker")
        kills += 1
        house.wait(lambda: house.pids("worker"), 30)
        time.sleep(rng.uniform(0.5, 3.0))  # anywhere between its start and the middle of a batch
    assert kills >= 3
    everything_is_there(house, job)


def test_a_database_that_is_locked_for_long(house):
    house.serve()
    job = house.add_job(iters=STEPS, save_every=50, steps_per_eval=100)
    house.wait_step(job, 5)
    with contextlib.closing(sqlite3.connect(house.home / "db.sqlite3", isolation_level=None, timeout=20)) as db:
        db.execute("BEGIN IMMEDIATE")
        time.sleep(25)  # longer than the time-out of a write, so that writes fail and are tried again
        db.execute("ROLLBACK")
    everything_is_there(house, job)
