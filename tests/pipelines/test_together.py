"""Two at once: whoever is second changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from mlxplatform.core.errors import Conflict
from pipelines import services
from pipelines.models import PipelineRun, RunEvent
from tests.pipelines.lives import AFTER, at, data, go, job, model, pipeline, started, states, step, succeeds
from training.models import Job

pytestmark = pytest.mark.django_db(transaction=True)
TOGETHER = 4


def at_once(*acts: Callable[[], Any]) -> list[Exception]:
    """Call them from threads that begin at one moment, a single one from several; what went wrong."""
    acts = acts if len(acts) > 1 else acts * TOGETHER
    gate, faults = threading.Barrier(len(acts)), []

    def one(act: Callable[[], Any]) -> None:
        try:
            gate.wait()
            act()
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults


def test_a_run_that_is_advanced_from_many_sides_makes_each_job_once(user) -> None:
    run = services.start(user, pipeline(user, step("sft"), step("dpo", uses=AFTER)),
                         {"model": str(model().pk), "data": str(data().pk)})  # fmt: skip
    assert at_once(lambda: services.advance(run.pk)) == []
    assert Job.objects.count() == 1 and states(run) == {"sft": "running", "dpo": "waiting"}
    succeeds(job(run, "sft"))
    assert at_once(services.advance_all) == []
    assert Job.objects.count() == 2 and states(run) == {"sft": "succeeded", "dpo": "running"}
    succeeds(job(run, "dpo"))
    assert at_once(lambda: services.advance(run.pk)) == []
    assert go(run).state == "succeeded"
    moves = list(RunEvent.objects.filter(run=run).values_list("step", "to"))
    assert len(moves) == len(set(moves)) == 6, "each move once"


def test_two_answers_at_once_are_one(user) -> None:
    run = started(user, pipeline(user, step("ask", "approve"), inputs={}))
    digest = at(run, "ask").digest
    faults = at_once(lambda: services.approve(user, at(run, "ask"), digest))
    assert len(faults) == TOGETHER - 1 and all(isinstance(fault, Conflict) for fault in faults)
    assert at(run, "ask").approvals.count() == 1 and go(run).state == "succeeded"


def test_starts_at_once_with_one_key_are_one_run(user) -> None:
    made, chosen = pipeline(user, step("sft")), {"model": str(model().pk), "data": str(data().pk)}
    assert at_once(lambda: services.start(user, made, chosen, idempotency_key="k")) == []
    assert PipelineRun.objects.count() == 1
    assert at_once(lambda: services.start(user, made, chosen)) == []
    assert sorted(PipelineRun.objects.values_list("number", flat=True)) == list(range(1, TOGETHER + 2))


@pytest.mark.parametrize("turn", range(5))
def test_pause_and_advance_at_once_leave_no_job_behind(user, turn: int) -> None:
    run = services.start(user, pipeline(user, step("sft")), {"model": str(model().pk), "data": str(data().pk)})
    acts = [lambda: services.advance(run.pk)] * 3
    acts.insert(turn % 4, lambda: services.pause(user, PipelineRun.objects.get(pk=run.pk)))
    assert at_once(*acts) == []
    assert go(run).state == "paused"
    assert states(run)["sft"] == "waiting" or job(run, "sft").state == "stopped"
