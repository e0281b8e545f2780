"""The demo's steps: imports once, then a training with everything chosen."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from mlxplatform.core.access import Role, make_user
from registry.models import ModelVersion, RegisteredModel
from training import demo
from training.models import Dataset, DatasetVersion, Job

pytestmark = pytest.mark.django_db


@pytest.fixture
def editor() -> Any:
    return make_user("ed", Role.EDITOR)


def bring(prepared: demo.Demo) -> None:
    """What the two imports leave behind when they land."""
    assert prepared.model_job is not None
    model = RegisteredModel.objects.create(name=demo.MODEL_NAME)
    ModelVersion.objects.create(
        model=model, n=1, kind="base", path="models/x", job_id=prepared.model_job.pk, context_length=8192
    )
    data = Dataset.objects.create(name=demo.DATA_NAME)
    DatasetVersion.objects.create(
        dataset=data, n=1, sha256="0" * 64, data_format="chat", rows_train=300, job=prepared.data_job
    )


def test_preparing_twice_queues_each_import_once(editor: Any) -> None:
    demo.prepare(editor)
    again = demo.prepare(editor)
    assert sorted(Job.objects.values_list("kind", flat=True)) == ["import_dataset", "import_model"]
    assert len(again.preparing) == 2
    assert not again.is_ready


def test_the_other_sets_are_queued_once_and_are_not_the_demo_data(editor: Any) -> None:
    first, again = demo.prepare_sets(editor), demo.prepare_sets(editor)
    assert first == again
    assert [job.settings["source"]["form"] for job in first] == ["preference", "kto", "prompts"]
    assert demo.find().data_job is None


def test_an_import_from_before_there_were_forms_is_the_demo_data(editor: Any) -> None:
    job = demo.prepare(editor).data_job
    assert job is not None
    job.settings["source"].pop("form")
    job.save()
    assert demo.find().data_job == job


def test_with_model_and_data_the_training_is_queued_with_the_demo_settings(editor: Any) -> None:
    bring(demo.prepare(editor))
    job = demo.start(editor)
    assert job.settings["iters"] == demo.SETTINGS["iters"]
    assert job.settings["adapter"]["rank"] == demo.SETTINGS["adapter"]["rank"]
    assert job.dataset_version is not None


def test_a_look_at_the_page_changes_nothing(editor: Any, client: Client) -> None:
    client.force_login(editor)
    assert b"Fetch what is missing" in client.get("/demo/").content
    assert Job.objects.count() == 0


def test_the_page_fetches_then_starts(editor: Any, client: Client) -> None:
    client.force_login(editor)
    assert client.post("/demo/").headers["Location"] == "/demo/"
    assert b"not here yet" not in client.get("/demo/").content
    bring(demo.find())
    assert b"Start training" in client.get("/demo/").content
    answer = client.post("/demo/")
    assert answer.headers["Location"] == f"/jobs/{Job.objects.get(kind='train').pk}/"


def test_a_viewer_cannot_start_it(client: Client) -> None:
    client.force_login(make_user("vi", Role.VIEWER))
    assert client.post("/demo/").status_code == 403
    assert Job.objects.count() == 0
