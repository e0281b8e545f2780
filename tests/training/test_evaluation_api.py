"""Evaluations over the API."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from mlxplatform.core.access import Role, make_user
from tests.training.runs import make_job
from training.landing import land
from training.models import DatasetVersion, Evaluation, Job

pytestmark = pytest.mark.django_db
URL = "/api/v1/evaluations"


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(make_user("ada", Role.EDITOR))
    return client


@pytest.fixture
def base() -> Job:
    job = make_job()
    DatasetVersion.objects.update(rows_valid=5)
    return job


def post(client: Client, base: Job, **more):
    body = {"model_version_id": str(base.model_version_id), "dataset_version_id": str(base.dataset_version_id), **more}
    return client.post(URL, json.dumps(body), "application/json")


def test_an_evaluation_is_queued_and_its_figures_are_listed(boss: Client, base: Job) -> None:
    made = post(boss, base, settings={"rules": ["length weight=2"], "rows": 4})
    assert (made.status_code, made.json()["kind"], made.json()["state"]) == (201, "evaluate", "queued")
    job = Job.objects.get(pk=made.json()["id"])
    ids = land(job, {"values": {"loss": 1.5, "length": 1.0, "broken": "nan"}, "answered": 4})
    assert land(job, {"values": {"loss": 9.0}}) == ids
    listed = boss.get(URL, {"model_version_id": base.model_version_id}).json()["items"]
    assert [row["id"] for row in listed] == [ids["evaluation"]]
    assert (listed[0]["values"], listed[0]["answered"]) == ({"loss": 1.5, "length": 1.0}, 4)
    assert boss.get(f"{URL}/{ids['evaluation']}").json() == listed[0]
    assert boss.get(URL, {"checkpoint_id": base.pk}).json()["items"] == []


def test_the_list_goes_on_by_cursor(boss: Client, base: Job) -> None:
    for _ in range(3):
        land(Job.objects.get(pk=post(boss, base).json()["id"]), {"values": {"loss": 1.0}})
    first = boss.get(URL, {"limit": 2}).json()
    second = boss.get(URL, {"limit": 2, "cursor": first["next"]}).json()
    assert len({row["id"] for row in first["items"] + second["items"]}) == 3 and second["next"] is None


def test_equal_requests_have_equal_hashes(boss: Client, base: Job) -> None:
    for settings in ({}, {}, {"rows": 3}):
        land(Job.objects.get(pk=post(boss, base, settings=settings).json()["id"]), {"values": {"loss": 1.0}})
    one, two, other = Evaluation.objects.order_by("created_at")
    assert one.settings_hash == two.settings_hash != other.settings_hash
    assert list(Evaluation.objects.alike(one)) == [two, one]


def test_bad_input_is_named(boss: Client, base: Job) -> None:
    answer = post(boss, base, reward_version_id=str(base.model_version_id), settings={"rules": ["regex pattern='('"]})
    found = {error["code"]: error["loc"] for error in answer.json()["errors"]}
    assert answer.status_code == 422
    assert found == {"reward_model.no_head": ["reward_version_id"], "config.value_error": ["rules", 0, "pattern"]}


def test_an_evaluation_without_a_figure_fails(boss: Client, base: Job) -> None:
    job = Job.objects.get(pk=post(boss, base).json()["id"])
    with pytest.raises(Exception, match="without a figure"):
        land(job, {"values": {"loss": "nan"}})


def test_an_unknown_evaluation_is_404(boss: Client, base: Job) -> None:
    assert boss.get(f"{URL}/{base.pk}").json()["errors"][0]["code"] == "evaluation.unknown"
