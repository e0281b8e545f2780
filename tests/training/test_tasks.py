from __future__ import annotations

import pytest
from huey.contrib.djhuey import HUEY

from tests.training.runs import make_job
from training.dispatch import BELL
from training.models import Job
from training.signals import job_queued
from training.tasks import wake


@pytest.fixture(autouse=True)
def _empty_queue():
    HUEY.flush()
    BELL.clear()
    yield
    HUEY.flush()


def test_waking_rings_the_bell():
    wake.call_local()
    assert BELL.is_set()


def test_a_queued_job_sends_one_message_that_a_worker_can_read(db):
    job_queued.send(sender=Job, job_id=make_job().pk)
    assert HUEY.pending_count() == 1
    HUEY.execute(HUEY.dequeue())
    assert BELL.is_set()
