"""What the form of a new training offers, by the method that is chosen."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from django.test import Client

from mlxplatform.core.access import Role, make_user
from registry.models import ModelVersion
from tests.training.runs import make_job
from training.choices import ROLES, grouped, method_for
from training.engine.catalog.formats import FORMATS
from training.engine.catalog.method_settings import Group
from training.engine.catalog.methods import METHODS
from training.models import Dataset, DatasetVersion, Job

pytestmark = pytest.mark.django_db


@pytest.fixture
def editor(client: Client) -> Client:
    client.force_login(make_user("ed", Role.EDITOR))
    return client


def data(form: str) -> DatasetVersion:
    """A data set with rows of the form ``form``."""
    row = Dataset.objects.create(name=f"some {form}")
    return DatasetVersion.objects.create(
        dataset=row, n=1, sha256=uuid.uuid4().hex, data_format=form, rows_train=10, rows_valid=2
    )


def model(*heads: str) -> ModelVersion:
    version = make_job().model_version
    version.heads = list(heads)
    version.save()
    return version


def inputs(page: str, name: str) -> list[str]:
    """The radio buttons called ``name``, whole."""
    return re.findall(rf'<input type="radio"[^>]*name="{re.escape(name)}"[^>]*>', page)


def test_every_method_is_offered_in_its_family(editor: Client) -> None:
    page = editor.get("/jobs/new/").content.decode()
    for row in METHODS:
        assert f'id="method-{row.name}"' in page
    assert [row.name for _, rows in grouped() for row in rows if row.name not in METHODS] == []
    assert {group for group, _ in grouped()} <= set(Group.__args__)


def test_every_role_has_words() -> None:
    assert {role for row in METHODS for role in row.settings.takes} <= set(ROLES)


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_what_a_method_needs_can_be_given(row: Any) -> None:
    assert set(row.settings().needs) <= set(row.settings.takes)


def test_a_method_is_offered_only_what_it_reads(editor: Client) -> None:
    pairs, chats = data("preference"), data("chat")
    page = editor.get("/jobs/new/", {"method": "dpo"}).content.decode()
    by_id = {key: one for one in inputs(page, "data") for key in (str(pairs.pk), str(chats.pk)) if key in one}
    assert "checked" in by_id[str(pairs.pk)]
    assert "disabled" in by_id[str(chats.pk)]
    assert "holds rows of the form Chat" in page
    assert "docs_form=preference" in page


def test_without_data_that_it_reads_a_method_says_how_to_come_by_some(editor: Client) -> None:
    data("chat")
    page = editor.get("/jobs/new/", {"method": "kto"}).content.decode()
    assert "No data for KTO yet" in page
    assert '?from=docs&amp;docs_form=kto"' in page


def test_the_link_to_a_demo_set_chooses_its_form(editor: Client) -> None:
    page = editor.get("/datasets/new/", {"from": "docs", "docs_form": "kto"}).content.decode()
    assert re.search(r'<option value="kto"\s+selected', page)


@pytest.mark.parametrize("form", FORMATS.names)
def test_from_a_data_set_the_form_opens_with_a_method_that_reads_it(editor: Client, form: str) -> None:
    page = editor.get("/jobs/new/", {"data": str(data(form).pk)}).content.decode()
    (chosen,) = [one for one in inputs(page, "method") if "checked" in one]
    assert f'value="{method_for(form)}"' in chosen
    assert form in METHODS[method_for(form)].settings.reads


def test_another_method_brings_settings_data_and_further_models(editor: Client) -> None:
    pairs, scorer = data("preference"), model("score")
    posted = {"method": "ppo", "method.was": "dpo", "method.beta": "0.3", "data": str(pairs.pk)}
    page = editor.post("/jobs/new/method/", posted).content.decode()
    assert 'name="kept.dpo.method.beta" value="0.3"' in page
    assert 'name="method.kl_coef"' in page
    assert str(scorer.pk) in inputs(page, "others.reward_model")[0]
    assert len(inputs(page, "others.reward_model")) == 1
    assert page.count("hx-swap-oob") == 2


def test_the_data_set_of_a_method_stands_there_again_when_it_comes_back(editor: Client) -> None:
    older, pairs = data("chat"), data("preference")
    data("chat")
    away = {"method": "dpo", "method.was": "sft", "data": str(older.pk)}
    page = editor.post("/jobs/new/method/", away).content.decode()
    assert f'name="kept.data.sft" value="{older.pk}"' in page
    back = {"method": "sft", "method.was": "dpo", "data": str(pairs.pk), "kept.data.sft": str(older.pk)}
    page = editor.post("/jobs/new/method/", back).content.decode()
    (chosen,) = [one for one in inputs(page, "data") if "checked" in one]
    assert str(older.pk) in chosen


def test_a_picker_comes_and_goes_with_the_setting_that_asks_for_it(editor: Client) -> None:
    data("prompts")
    posted = {"method": "grpo", "roles": "", "method.reward_model_weight": "1"}
    page = editor.post("/jobs/new/plan/", posted).content.decode()
    assert 'id="others-reward_model"' in page
    assert 'id="others"' not in editor.post("/jobs/new/plan/", {**posted, "roles": "reward_model"}).content.decode()


def test_a_missing_further_model_is_named_beside_its_picker(editor: Client) -> None:
    posted = {"model": str(model().pk), "data": str(data("chat").pk), "method": "distillation"}
    answer = editor.post("/jobs/new/", posted)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'href="#others-teacher"' in page
    assert page.count("Distillation needs a teacher, and none was given.") == 2


def test_a_chosen_further_model_becomes_the_jobs(editor: Client) -> None:
    student, teacher = model(), model()
    posted = {
        "model": str(student.pk),
        "data": str(data("chat").pk),
        "method": "distillation",
        "others.teacher": str(teacher.pk),
        "key": "k",
    }
    for version in (student, teacher):
        (version.folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
    answer = editor.post("/jobs/new/", posted)
    assert answer.status_code == 302, answer.content.decode()[:2000]
    job = Job.objects.get(idempotency_key="k")
    assert {one.role: one.version for one in job.inputs.all()} == {"teacher": teacher}
    page = editor.get("/jobs/new/", {"from": str(job.pk)}).content.decode()
    (chosen,) = [one for one in inputs(page, "others.teacher") if "checked" in one]
    assert str(teacher.pk) in chosen
    config = editor.get(f"/jobs/{job.pk}/config/").content.decode()
    assert "Further models" in config
    assert str(teacher) in config


def test_an_unfit_teacher_is_told_before_the_start(editor: Client) -> None:
    student, teacher = model(), model()
    for version, word in ((student, "a"), (teacher, "b")):
        (version.folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {word: 0}}}))
    posted = {"model": str(student.pk), "data": str(data("chat").pk), "method": "distillation"}
    page = editor.post("/jobs/new/plan/", {**posted, "others.teacher": str(teacher.pk)}).content.decode()
    assert "The teacher has another tokenizer" in page
    assert str(teacher.pk) in page  # among what is copied
