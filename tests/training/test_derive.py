"""Jobs that make something out of a model: what is asked, what the engine reads, what comes of it."""

from __future__ import annotations

import json

import pytest
from django.conf import settings
from django.urls import reverse

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.errors import Invalid
from registry.models import ModelVersion
from tests.training.runs import make_job
from training import services
from training.engine.config.derived import GenerateDatasetConfig, MakeStudentConfig
from training.engine.config.training import load
from training.landing import land
from training.models import DatasetVersion, Job
from training.orders import version_id, write_config

pytestmark = pytest.mark.django_db


@pytest.fixture
def editor():
    return make_user("ed", Role.EDITOR)


@pytest.fixture
def model() -> ModelVersion:
    version = make_job().model_version
    (version.folder / "config.json").write_text(json.dumps({"num_hidden_layers": 6}))
    return version


@pytest.fixture
def data() -> DatasetVersion:
    return make_job().dataset_version


def codes(error: pytest.ExceptionInfo[Invalid]) -> set[str]:
    return {problem.code for problem in error.value.problems}


def test_a_student_is_asked_for_by_its_layers(editor, model):
    job = services.create_student(editor, model.pk, 2, "tiny")
    write_config(job)
    read = load(MakeStudentConfig, job.run_dir.config)
    assert (read.layers, read.name, read.model.model) == ([0, 5], "tiny", model.folder)
    assert read.target == settings.HOME / "models" / str(version_id(job))
    assert (job.kind, job.resource, job.name) == ("make_student", "cpu", "Smaller model: tiny")


def test_a_student_says_what_it_was_made_from(editor, model):
    job = services.create_student(editor, model.pk)
    target = settings.HOME / "models" / str(version_id(job))
    target.mkdir(parents=True)
    (target / "config.json").write_text("{}")
    ids = land(job, {"model_type": "llama", "parameters": 5, "layers": [0, 2, 4]})
    made = ModelVersion.objects.get(pk=ids["model_version"])
    assert (made.kind, made.base, made.model.name) == ("base", None, "base, 3 layers")
    assert (made.source["made_from_version"], made.source["layers"]) == (str(model.pk), [0, 2, 4])


@pytest.mark.parametrize("layers", [6, 0, [5, 1], [9], "some", None])
def test_layers_that_cannot_be_make_no_job(layers, editor, model):
    before = Job.objects.count()
    with pytest.raises(Invalid) as refusal:
        services.create_student(editor, model.pk, layers)
    assert {problem.loc[0] for problem in refusal.value.problems} == {"layers"}
    assert Job.objects.count() == before


def test_a_model_that_hides_its_layers_is_refused(editor, model):
    (model.folder / "config.json").write_text("{}")
    with pytest.raises(Invalid) as refusal:
        services.create_student(editor, model.pk)
    assert codes(refusal) == {"student.shape"}


def test_a_data_set_is_answered(editor, model, data):
    job = services.create_generated_dataset(editor, model.pk, data.pk, {"samples": 2, "temperature": 0.7})
    write_config(job)
    read = load(GenerateDatasetConfig, job.run_dir.config)
    assert (read.draw.samples, read.draw.temperature, read.draw.max_tokens) == (2, 0.7, 256)
    assert (read.model.model, read.data, read.target) == (model.folder, data.folder, settings.HOME / "datasets")
    assert job.name == "Generate data, answered by base"


def test_what_was_answered_knows_teacher_and_questions(editor, model, data):
    job = services.create_generated_dataset(editor, model.pk, data.pk, name="taught")
    (settings.HOME / "datasets" / "c0ffee").mkdir(parents=True, exist_ok=True)
    ids = land(job, {"sha256": "c0ffee", "data_format": "chat", "rows": {"train": 9}, "bytes": 7})
    made = DatasetVersion.objects.get(pk=ids["dataset_version"])
    assert (made.dataset.name, made.rows_train) == ("taught", 9)
    assert (made.source["model_version"], made.source["dataset_version"]) == (str(model.pk), str(data.pk))


def test_all_that_is_wrong_with_an_order_at_once(editor, model, data):
    data.data_format = "text"
    data.save()
    with pytest.raises(Invalid) as refusal:
        services.create_generated_dataset(editor, "none", data.pk, {"top_p": 0})
    assert {"model.unknown", "dataset.no_questions", "config.greater_than"} == codes(refusal)


def test_a_doubled_key_makes_one_job(editor, model, data):
    first = services.create_student(editor, model.pk, idempotency_key="k")
    assert services.create_student(editor, model.pk, idempotency_key="k") == first
    other = services.create_generated_dataset(editor, model.pk, data.pk, idempotency_key="d")
    assert services.create_generated_dataset(editor, model.pk, data.pk, idempotency_key="d") == other


def test_over_the_api(client, editor, model, data):
    client.force_login(editor)
    address = f"/api/v1/models/versions/{model.pk}/student"
    made = client.post(address, {"layers": [0, 5]}, content_type="application/json")
    assert (made.status_code, made.json()["settings"]["layers"]) == (201, [0, 5])
    wrong = client.post(address, {"layers": 7}, content_type="application/json")
    assert (wrong.status_code, wrong.json()["errors"][0]["code"]) == (422, "student.layers")
    body = {"model_version_id": str(model.pk), "dataset_version_id": str(data.pk), "draw": {"samples": 3}}
    made = client.post("/api/v1/datasets/generate", body, content_type="application/json")
    assert (made.status_code, made.json()["settings"]["draw"]["samples"]) == (201, 3)


def test_their_pages_say_what_was_made_of_what(client, editor, model, data):
    client.force_login(editor)
    student = services.create_student(editor, model.pk)
    answered = services.create_generated_dataset(editor, model.pk, data.pk)
    target = settings.HOME / "models" / str(version_id(student))
    target.mkdir(parents=True)
    (target / "config.json").write_text("{}")
    folder = settings.HOME / "datasets" / "c0ffee"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.jsonl").write_text('{"messages":[{"role":"user","content":"Why?"}]}\n')
    made = land(student, {"model_type": "llama", "parameters": 5})
    rows = land(answered, {"sha256": "c0ffee", "data_format": "chat", "rows": {"train": 1}, "bytes": 7})
    for name, key, words in (
        ("job", student.pk, "Smaller model"),
        ("job", answered.pk, "Generate data, answered by base"),
        ("model_version", made["model_version"], "Made from"),
        ("dataset_report", rows["dataset"], "Questions of data v1, answered by base v1"),
    ):
        page = client.get(reverse(name, args=[key]))
        assert page.status_code == 200, name
        assert words in page.content.decode(), name
