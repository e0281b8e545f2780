"""An address for each method, described by its own settings and refusing in the house's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxplatform.api import api
from mlxplatform.core.access import Role, make_user
from registry.models import ModelVersion
from tests.training.runs import make_job
from training.engine.catalog.methods import METHODS
from training.engine.config.training import TrainSettings
from training.models import DatasetVersion, Job
from training.train_api import address

pytestmark = pytest.mark.django_db
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return json.loads(json.dumps(api.get_openapi_schema()))


@pytest.fixture
def post(client):
    client.force_login(make_user("ed", Role.EDITOR))
    return lambda path, body: client.post(f"/api/v1/train/{path}", json.dumps(body), content_type="application/json")


def asked(wanted: str, **more: Any) -> dict[str, Any]:
    """A body for a method, with rows that it reads."""
    job = make_job()
    DatasetVersion.objects.filter(pk=job.dataset_version_id).update(data_format=METHODS[wanted].settings.reads[0])
    return {"model_version_id": str(job.model_version_id), "dataset_version_id": str(job.dataset_version_id), **more}


def codes(answer: Any) -> set[str]:
    return {problem["code"] for problem in answer.json()["errors"]}


def test_the_names_people_know_are_there() -> None:
    assert {"sft", "cpt", "distillation", "rlhf/dpo", "rlhf/reward-model", "rlhf/ppo", "rlhf/grpo"} <= {
        address(row) for row in METHODS
    }


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_every_field_of_a_method_is_described_with_its_help(described: dict[str, Any], row: Any) -> None:
    operation = described["paths"][f"/api/v1/train/{address(row)}"]["post"]
    schemas = described["components"]["schemas"]
    body = schemas[operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]]
    method = schemas[body["properties"]["method"]["allOf"][0]["$ref"].split("/")[-1]]["properties"]
    assert set(method) == set(row.settings.model_fields)
    assert all(field["description"] for name, field in method.items() if name != "name")
    rest = schemas[body["properties"]["settings"]["allOf"][0]["$ref"].split("/")[-1]]["properties"]
    assert set(rest) == set(TrainSettings.model_fields) - {"method"}
    assert rest["learning_rate"]["exclusiveMinimum"] == 0
    assert {f"{role}_version_id" for role in row.settings.takes} == {
        name for name in body["properties"] if name.endswith("_version_id")
    } - {"model_version_id", "dataset_version_id"}


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_every_address_makes_a_job_of_its_method(post: Any, row: Any) -> None:
    more: dict[str, Any] = {}
    for role in row.settings().needs:
        version = make_job().model_version
        ModelVersion.objects.filter(pk=version.pk).update(heads=["score"])
        more[f"{role}_version_id"] = str(version.pk)
    answer = post(address(row), asked(row.name, settings={"iters": 5}, **more))
    assert answer.status_code == 201, answer.json()
    job = Job.objects.get(pk=answer.json()["id"])
    assert (job.settings["method"]["name"], job.settings["iters"]) == (row.name, 5)
    assert {f"{one.role}_version_id" for one in job.inputs.all()} == set(more)


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_every_address_is_in_the_documents(row: Any) -> None:
    assert f"`/train/{address(row)}`" in (DOCS / "api.md").read_text()


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"method": {"beta": 0}}, {"config.greater_than"}),
        ({"method": {"beta": 0, "gamma": 1}, "settings": {"learning_rate": 9}},
         {"config.greater_than", "config.unknown", "config.less_than_equal"}),
        ({"method": {"name": "kto"}}, {"method.unknown"}),
        ({"settings": {"method": "sft"}}, {"method.unknown"}),
        ({"teacher_version_id": None}, {"config.unknown"}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_before_there_is_a_job(post: Any, body: dict[str, Any], wanted: set[str]) -> None:
    request = asked("dpo", **body)
    before = Job.objects.count()
    answer = post("rlhf/dpo", request)
    assert (answer.status_code, codes(answer)) == (422, wanted)
    assert Job.objects.count() == before


def test_settings_with_the_method_in_them_as_for_jobs_are_taken(post: Any) -> None:
    answer = post("sft", asked("sft", settings={"method": {"name": "sft", "train_on": "last"}}))
    assert answer.json()["settings"]["method"]["train_on"] == "last"


def test_missing_further_models_are_named(post: Any) -> None:
    assert codes(post("distillation", asked("distillation"))) == {"teacher.missing"}
    assert codes(post("rlhf/ppo", asked("ppo"))) == {"reward_model.missing"}
    no_head = str(make_job().model_version_id)
    answer = post("rlhf/ppo", asked("ppo", reward_model_version_id=no_head))
    assert codes(answer) == {"reward_model.no_head"}
    assert answer.json()["errors"][0]["loc"] == ["reward_model_version_id"]
