"""A person decides at a step: yes, no, too late, to something else, or not at all."""

from __future__ import annotations

import pytest

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.errors import Conflict, Forbidden
from pipelines import services
from pipelines.models import PipelineRun
from registry.models import Alias
from tests.pipelines.lives import (
    at,
    gate,
    go,
    job,
    pipeline,
    started,
    states,
    step,
    succeeds,
)

pytestmark = pytest.mark.django_db


ASK = (
    step("sft"),
    step("ask", "approve", uses={"model": "sft.model", "metrics": "sft.metrics"}, settings={"question": "Good?"}),
    step("name", "register", uses={"model": "sft.model"}, after=["ask"]),
    gate("otherwise", "1 < 2", after=["ask.failed"]),
)


@pytest.fixture
def asking(user) -> PipelineRun:
    """A run that waits for a person."""
    run = started(user, pipeline(user, *ASK))
    succeeds(job(run, "sft"), val_loss=1.0)
    return go(run)


def test_it_waits_for_a_person_without_a_job(asking) -> None:
    assert asking.state == "running" and states(asking)["ask"] == "approval"
    assert at(asking, "ask").message == "Good?" and at(asking, "ask").job is None
    services.advance_all()
    assert states(asking) == {"sft": "succeeded", "ask": "approval", "name": "waiting", "otherwise": "waiting"}


def test_yes(user, asking) -> None:
    made = services.approve(user, at(asking, "ask"), at(asking, "ask").digest, " looks good ")
    run = go(asking)
    assert run.state == "succeeded" and states(run)["name"] == "succeeded" and states(run)["otherwise"] == "skipped"
    assert (made.approved, made.note, made.user, made.digest) == (True, "looks good", user, at(run, "ask").digest)
    assert at(run, "ask").message == "Approved by ed: looks good."
    assert str(Alias.objects.get().version_id) == at(run, "sft").outputs["model"]


def test_no(user, asking) -> None:
    services.reject(user, at(asking, "ask"), at(asking, "ask").digest)
    run = go(asking)
    assert states(run) == {"sft": "succeeded", "ask": "failed", "name": "skipped", "otherwise": "succeeded"}
    assert run.state == "succeeded", "somebody waited for the no"
    assert at(run, "ask").message == "Rejected by ed." and not Alias.objects.exists()


def test_an_answer_to_something_else_is_refused(user, asking) -> None:
    with pytest.raises(Conflict) as refused:
        services.approve(user, at(asking, "ask"), "0" * 64)
    assert refused.value.code == "approval.changed" and not at(asking, "ask").approvals.exists()


@pytest.mark.parametrize("act", [services.approve, services.reject])
def test_a_viewer_does_not_decide(asking, act) -> None:
    with pytest.raises(Forbidden):
        act(make_user("look", Role.VIEWER), at(asking, "ask"), at(asking, "ask").digest)
    assert states(asking)["ask"] == "approval"


def test_one_answer_is_enough(user, asking) -> None:
    seen = at(asking, "ask")
    services.approve(user, at(asking, "ask"), seen.digest)
    for act in (services.approve, services.reject):
        with pytest.raises(Conflict):
            act(user, seen, seen.digest)
    assert seen.approvals.count() == 1 and states(asking)["ask"] == "succeeded"
