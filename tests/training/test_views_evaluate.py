"""Pages of evaluations: the form, the job's page, and the table of a model version."""

from __future__ import annotations

import pytest
from django.test import Client

from mlxplatform.core.access import Role, make_user
from tests.training.runs import make_job
from training.engine.catalog.rules import RULES, parsed
from training.forms_evaluation import EXAMPLES
from training.landing import land
from training.models import Checkpoint, DatasetVersion, Job, Sample

pytestmark = pytest.mark.django_db
NEW = "/jobs/evaluate/"


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(make_user("ada", Role.EDITOR))
    return client


@pytest.fixture
def base() -> Job:
    job = make_job()
    DatasetVersion.objects.update(rows_valid=5)
    return job


def texts(base: Job, **more: str) -> dict[str, str]:
    return {"model": str(base.model_version_id), "data": str(base.dataset_version_id), **more}


def evaluated(boss: Client, base: Job, **more: str) -> Job:
    boss.post(NEW, texts(base, **more))
    return Job.objects.filter(kind="evaluate").first()


def test_the_form_shows_every_setting_and_every_rule(boss: Client, base: Job) -> None:
    content = boss.get(NEW, {"model": str(base.model_version_id)}).content.decode()
    for name in ("split", "rules", "rows", "max_tokens", "temperature", "seed"):
        assert f'name="{name}"' in content
    assert all(f"<dt>{row.label}</dt>" in content for row in RULES)
    assert f'value="{base.model_version_id}" selected' in content


@pytest.mark.parametrize("name", RULES.names)
def test_every_rule_has_a_line_to_begin_with(name: str) -> None:
    assert RULES[name].settings(**parsed(EXAMPLES[name])).name == name


def test_what_is_typed_becomes_the_job(boss: Client, base: Job) -> None:
    rules = "length at_most=9\r\nregex pattern='^a b$'\r\n"
    answer = boss.post(NEW, texts(base, rules=rules, rows="7", loss="off", split="valid", name="mine"))
    job = Job.objects.get(kind="evaluate")
    assert answer["Location"] == f"/jobs/{job.pk}/" and job.name == "mine"
    assert job.settings["rules"] == ["length at_most=9", "regex pattern='^a b$'"]
    assert (job.settings["rows"], job.settings["loss"]) == (7, False)


def test_problems_stand_beside_what_they_are_about(boss: Client, base: Job) -> None:
    answer = boss.post(NEW, texts(base, rules="praise", reward=str(base.model_version_id)))
    content = answer.content.decode()
    assert answer.status_code == 422 and not Job.objects.filter(kind="evaluate").exists()
    assert 'href="#f-rules"' in content and 'href="#f-reward"' in content
    assert "here is no rule &#x27;praise&#x27;" in content and "praise</textarea>" in content


def test_a_checkpoint_comes_by_its_link(boss: Client, base: Job) -> None:
    row = Checkpoint.objects.create(job=base, attempt=1, step=40, path="checkpoints/0000040", sha256="0" * 64)
    link = f"{NEW}?checkpoint={row.pk}&amp;data={base.dataset_version_id}"
    assert link in boss.get(f"/jobs/{base.pk}/checkpoints/").content.decode()
    content = boss.get(link.replace("&amp;", "&")).content.decode()
    assert "Checkpoint at step 40" in content and 'name="model"' not in content
    boss.post(NEW, {"checkpoint": str(row.pk), "data": str(base.dataset_version_id)})
    assert Job.objects.get(kind="evaluate").settings["checkpoint"] == str(row.pk)


def test_a_checkpoint_that_is_not_there_is_404(boss: Client, base: Job) -> None:
    assert boss.get(NEW, {"checkpoint": str(base.pk)}).status_code == 404


def test_the_job_page_has_figures_and_answers(boss: Client, base: Job) -> None:
    job = evaluated(boss, base, rules="length")
    Sample.objects.create(job=job, step=0, index=0, prompt="Why?", text="Because.", reference="So.")
    assert "They appear when" in boss.get(f"/jobs/{job.pk}/").content.decode()
    land(job, {"values": {"perplexity": 3.25, "length": 0.5}, "answered": 5})
    content = boss.get(f"/jobs/{job.pk}/").content.decode()
    assert "3.25" in content and "50.0" in content and "Because." in content and "Before training" not in content
    assert boss.get(f"/jobs/{job.pk}/samples/").status_code == 200
    assert boss.get(f"/jobs/{job.pk}/charts/").status_code == 404


def test_a_version_lists_its_evaluations_with_the_best_marked(boss: Client, base: Job) -> None:
    for loss in (2.0, 1.0):
        land(evaluated(boss, base), {"values": {"loss": loss}})
    content = boss.get(f"/models/versions/{base.model_version_id}/evaluations/").content.decode()
    assert content.count('aria-label="best"') == 1 and "2.0000" in content
    assert content.index("1.0000") < content.index('aria-label="best"') < content.index("2.0000")
    page = boss.get(f"/models/versions/{base.model_version_id}/").content.decode()
    assert f"/models/versions/{base.model_version_id}/evaluations/" in page
    assert f"{NEW}?model={base.model_version_id}" in page


def test_a_viewer_sees_evaluations_and_starts_none(client: Client, base: Job) -> None:
    client.force_login(make_user("v", Role.VIEWER))
    assert client.get(NEW).status_code == 403 and client.post(NEW, texts(base)).status_code == 403
    assert client.get(f"/models/versions/{base.model_version_id}/evaluations/").status_code == 200
