"""The pages of what is made out of a model."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from mlxplatform.core.access import Role, make_user
from registry.models import ModelVersion, RegisteredModel
from tests.fakes import tiny
from tests.training.data_rows import chat, make_version
from training.models import Job

pytestmark = pytest.mark.django_db


@pytest.fixture
def page(client: Client) -> Client:
    client.force_login(make_user("ed", Role.EDITOR))
    return client


@pytest.fixture
def model() -> ModelVersion:
    held = RegisteredModel.objects.create(name="tiny")
    made = ModelVersion.objects.create(model=held, n=1, kind="base", path="models/derive", model_type="llama")
    tiny.make(made.folder)
    return made


def test_a_smaller_model_from_its_page(page: Client, model: ModelVersion) -> None:
    shown = page.get(reverse("student_new"), {"model": model.pk})
    assert f'<option value="{model.pk}" selected>' in shown.content.decode()
    texts = {"model": str(model.pk), "layers": "1", "name": "half", "key": "k"}
    for _ in range(2):  # a doubled click makes one job
        assert page.post(reverse("student_new"), texts).status_code == 302
    job = Job.objects.get()
    assert (job.kind, job.name, job.settings["source"]["layers"]) == ("make_student", "Smaller model: half", [0])


@pytest.mark.parametrize(("layers", "says"), [("0, 99", "cannot be made of"), ("many", "layers")])
def test_layers_that_cannot_be_are_told_beside_their_box(
    page: Client, model: ModelVersion, layers: str, says: str
) -> None:
    shown = page.post(reverse("student_new"), {"model": str(model.pk), "layers": layers})
    text = shown.content.decode()
    assert shown.status_code == 422 and says in text and f'value="{layers}"' in text
    assert 'id="f-layers" name="layers"' in text and "aria-invalid" in text and not Job.objects.exists()


def test_answers_as_data(page: Client, model: ModelVersion) -> None:
    data = make_version([chat("why?", "so")])
    texts = {"model": str(model.pk), "data": str(data.pk), "max_tokens": "32", "samples": "2", "key": "k"}
    assert page.post(reverse("generated_new"), texts).status_code == 302
    job = Job.objects.get()
    assert (job.kind, job.settings["draw"]["max_tokens"], job.settings["draw"]["samples"]) == (
        "generate_dataset",
        32,
        2,
    )
    wrong = page.post(reverse("generated_new"), {**texts, "key": "l", "max_tokens": "-1", "data": ""})
    assert wrong.status_code == 422 and wrong.content.decode().count("aria-invalid") == 2
    assert Job.objects.count() == 1


def test_a_viewer_makes_nothing(client: Client) -> None:
    client.force_login(make_user("vi", Role.VIEWER))
    assert client.post(reverse("student_new"), {}).status_code == 403
