"""``kill -9`` of each process in mid-step: the training ends with the very parameters of an undisturbed run."""

from __future__ import annotations

import hashlib

import pytest

from tests.chaos.house import SETTINGS, House

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    place = House(tmp_path_factory.mktemp("house"))
    yield place
    place.close()


@pytest.fixture(scope="module")
def undisturbed(house):
    """The weights of a run that nobody disturbed."""
    house.serve()
    job = house.add_job()
    house.wait_end(job)
    assert house.end() == 0
    return house.weights(job)


def succeeded_like(house, job, undisturbed):
    """What must be true after every accident."""
    house.wait_end(job)
    assert house.weights(job) == undisturbed
    assert house.steps(job) == list(range(1, SETTINGS["iters"] + 1))
    events = house.query("SELECT seq FROM training_jobevent WHERE job_id=? ORDER BY seq", job.replace("-", ""))
    assert [row[0] for row in events] == list(range(1, house.job(job)["last_seq"] + 1))
    assert house.query("SELECT count(*) FROM training_deviceslot WHERE job_id IS NOT NULL") == [(0,)]
    assert house.end() == 0
    assert house.processes() == []


def test_engine(house, undisturbed):
    house.serve()
    job = house.add_job()
    house.wait_step(job, 24)
    house.kill("engine")
    succeeded_like(house, job, undisturbed)
    assert [state for state, _ in house.attempts(job)] == ["lost", "succeeded"]


def test_worker(house, undisturbed):
    house.serve()
    job = house.add_job()
    house.wait_step(job, 24)
    engine = house.pid("engine")
    house.kill("worker")
    succeeded_like(house, job, undisturbed)
    assert house.attempts(job) == [("succeeded", engine)]


def test_web(house, undisturbed):
    house.serve()
    job = house.add_job()
    house.wait_step(job, 24)
    house.kill("web")
    house.wait(house.answers, 30)
    succeeded_like(house, job, undisturbed)
    assert len(house.attempts(job)) == 1


def test_launcher(house, undisturbed):
    house.serve()
    job = house.add_job(iters=SETTINGS["iters"])
    house.wait_step(job, 24)
    engine = house.pid("engine")
    house.kill("launcher")
    house.wait(lambda: {p.pid for p in house.processes()} <= {engine}, 10)
    house.serve()
    succeeded_like(house, job, undisturbed)
    assert house.attempts(job) == [("succeeded", engine)]


def test_ctrl_c_saves_and_the_next_start_goes_on(house, undisturbed):
    house.serve()
    job = house.add_job()
    house.wait_step(job, 24)
    assert house.end() == 0
    assert house.processes() == [] and house.job(job)["state"] == "queued"
    house.serve()
    succeeded_like(house, job, undisturbed)
    assert [state for state, _ in house.attempts(job)] == ["drained", "succeeded"]


def test_everything_at_once(house, undisturbed):
    house.serve()
    job = house.add_job()
    house.wait_step(job, 24)
    for name in ("engine", "worker", "launcher"):
        house.kill(name)
    house.wait(lambda: not house.processes(), 10)
    house.serve()
    succeeded_like(house, job, undisturbed)


def test_the_registered_file_is_the_checkpoints(house, undisturbed):
    found = [hashlib.sha256(p.read_bytes()).hexdigest() for p in house.home.glob("models/*/adapters.safetensors")]
    assert found and set(found) == {undisturbed}


def test_a_rank_of_two(house):
    house.serve()
    whole, job = house.add_job(ranks=2), house.add_job(ranks=2)
    house.wait_end(whole)
    house.wait_step(job, 24)
    house.kill("rank")
    succeeded_like(house, job, house.weights(whole))
    assert [state for state, _ in house.attempts(job)] == ["lost", "succeeded"]
