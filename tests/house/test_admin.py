"""The admin panel shows every table, changes almost none, and works under our Content Security Policy."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.models import ApiToken, AuditEvent, OneTimeLink
from pipelines.models import Approval, Pipeline, PipelineRun, PipelineVersion, StepRun
from registry.models import Alias, ModelVersion, RegisteredModel
from tests.training.runs import make_job
from training.models import (
    Attempt,
    Checkpoint,
    DeviceSlot,
    Evaluation,
    Job,
    JobEvent,
    JobInput,
    Metric,
    MetricPoint,
    MetricRollup,
    OptimizerPreset,
    Sample,
)

pytestmark = pytest.mark.django_db
OURS = [
    model
    for label in ("core", "registry", "training", "pipelines")
    for model in apps.get_app_config(label).get_models()
]
TABLES = [*OURS, *(model for model in apps.get_app_config("auth").get_models() if model.__name__ != "Permission")]
EDITABLE = {
    "job": {"notes", "priority"},
    "dataset": {"name"},
    "registeredmodel": {"name", "description"},
    "user": {"first_name", "last_name", "email"},
}


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(make_user("ada", Role.ADMIN))
    return client


@pytest.fixture
def filled(boss: Client) -> None:
    """A row in every table."""
    job = make_job()
    user = make_user("grace", Role.EDITOR)
    ApiToken.issue(user, "ci", "read")
    OneTimeLink.issue("sign_in", user)
    AuditEvent.write(user, "did", "this")
    Alias.objects.create(model=job.model_version.model, name="champion", version=job.model_version)
    Attempt.objects.create(job=job, n=1, fence=1)
    JobEvent.objects.append(job.pk, [("log", {"message": "<script>alert(1)</script>"})])
    DeviceSlot.objects.get_or_create(name="device:0", defaults={"resource": "device"})
    metric = Metric.objects.create(job=job, name="train_loss")
    MetricPoint.objects.create(metric=metric, step=1, value=1.0, t=0.0)
    MetricRollup.objects.create(metric=metric, size=16, bucket=0)
    Sample.objects.create(job=job, step=0, index=0, prompt="?")
    Checkpoint.objects.create(job=job, attempt=1, step=1, path="checkpoints/1", sha256="0" * 64)
    JobInput.objects.get_or_create(job=job, role="teacher", version=job.model_version)
    OptimizerPreset.objects.create(name="Lion, slow", owner=user)
    Evaluation.objects.create(job=job, model_version=job.model_version, dataset_version=job.dataset_version)
    body = {"schema": 1, "name": "p", "steps": [{"name": "ask", "kind": "approve"}]}
    version = PipelineVersion.objects.create(pipeline=Pipeline.objects.create(name="p"), n=1, body=body)
    run = PipelineRun.objects.create(number=1, version=version, message="<script>alert(1)</script>")
    step = StepRun.objects.create(run=run, place=0, name="ask", kind="approve", job=job)
    step.record_move("", "waiting")
    Approval.objects.create(step=step, user=user, approved=True, note="<script>alert(1)</script>", digest="0" * 64)


def address(model: Any, page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def test_every_table_is_in_the_panel() -> None:
    assert [model.__name__ for model in TABLES if not admin.site.is_registered(model)] == []


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.__name__)
def test_list_and_row_can_be_looked_at(boss: Client, filled: None, model: Any) -> None:
    row = model._default_manager.first()
    listed = boss.get(address(model, "changelist"), {"q": "1"})
    shown = boss.get(address(model, "change", row.pk))
    assert boss.get(address(model, "changelist")).status_code == listed.status_code == shown.status_code == 200
    assert b"<script>alert(1)" not in shown.content


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.__name__)
def test_only_the_harmless_columns_are_editable(boss: Client, filled: None, model: Any) -> None:
    row = model._default_manager.first()
    form = boss.get(address(model, "change", row.pk)).context["adminform"].form
    assert set(form.fields) == EDITABLE.get(model._meta.model_name, set())
    assert boss.get(address(model, "add")).status_code == 403
    assert boss.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert model._default_manager.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.__name__)
def test_nothing_in_a_page_is_against_the_policy(boss: Client, filled: None, model: Any) -> None:
    row = model._default_manager.first()
    for url in (address(model, "changelist"), address(model, "change", row.pk), reverse("admin:index")):
        page = boss.get(url).content.decode()
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)(?![^>]*application/json)|\sstyle=|\son[a-z]+=", page), url


def test_an_edit_writes_its_column_and_no_other(boss: Client) -> None:
    job = make_job()
    Job.objects.filter(pk=job.pk).update(state="running", step=7)
    answer = boss.post(address(Job, "change", job.pk), {"notes": "look again", "priority": "3", "state": "failed"})
    job.refresh_from_db()
    assert answer.status_code == 302
    assert (job.notes, job.priority, job.state, job.step) == ("look again", 3, "running", 7)
    assert AuditEvent.objects.filter(action="admin.changed", target=f"job {job.pk}").exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
def test_others_are_kept_out(client: Client, role: Role) -> None:
    client.force_login(make_user("eve", role))
    assert client.get(reverse("admin:index")).status_code == 302
    assert client.get(address(Job, "changelist")).status_code == 302


def test_no_hash_of_a_secret_is_shown(boss: Client, filled: None) -> None:
    for model in (ApiToken, OneTimeLink):
        row = model.objects.get()
        assert row.digest.encode() not in boss.get(address(model, "change", row.pk)).content


def test_names_of_models_are_found(boss: Client) -> None:
    make_job()
    page = boss.get(address(ModelVersion, "changelist"), {"q": "base", "kind__exact": "base"}).content
    assert b"1 model version" in page
    assert RegisteredModel.objects.count() == 1
