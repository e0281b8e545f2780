"""Evaluations before they are jobs: what is asked is found, and what is wrong has a name."""

from __future__ import annotations

import uuid

import pytest

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.errors import Forbidden, Invalid
from registry.models import ModelVersion
from tests.training.runs import make_job
from training import services
from training.models import Checkpoint, DatasetVersion, Job
from training.orders import config

pytestmark = pytest.mark.django_db


@pytest.fixture
def user():
    return make_user("ada", Role.EDITOR)


@pytest.fixture
def trained() -> Job:
    """A training whose data has rows to evaluate on, with a checkpoint."""
    job = make_job()
    DatasetVersion.objects.update(rows_valid=5)
    checkpoint = Checkpoint.objects.create(job=job, attempt=1, step=40, path="checkpoints/0000040", sha256="0" * 64)
    checkpoint.folder.mkdir(parents=True)
    return job


def reward(job: Job, **columns) -> ModelVersion:
    base = job.model_version
    given = {"kind": "adapter", "base": base, "heads": ["score"], **columns}
    return ModelVersion.objects.create(model=base.model, n=base.n + 1, path=f"models/{uuid.uuid4()}", **given)


def asked(job: Job, **more) -> dict:
    return {"model_version_id": job.model_version_id, "dataset_version_id": job.dataset_version_id, **more}


def codes(user, **request) -> list[str]:
    with pytest.raises(Invalid) as caught:
        services.create_evaluation(user, **request)
    assert not Job.objects.filter(kind="evaluate").exists()
    return [problem.code for problem in caught.value.problems]


def test_an_evaluation_is_a_job_with_its_models(user, trained) -> None:
    judge = reward(trained)
    base = trained.model_version
    job = services.create_evaluation(
        user, **asked(trained, settings={"rules": ["length"]}, reward_version_id=judge.pk, baseline_version_id=base.pk)
    )
    assert (job.kind, job.resource, job.state) == ("evaluate", "device", "queued")
    assert job.name == f"Evaluate {base} on {trained.dataset_version}"
    made = config(job)
    assert made["model"] == {"model": str(base.folder), "adapter": None} == made["baseline"]
    assert made["reward_model"] == {"model": str(base.folder), "adapter": str(judge.folder)}
    assert made["rules"] == ["length"] and made["data"] == str(trained.dataset_version.folder)


def test_a_checkpoint_is_looked_at_where_it_lies(user, trained) -> None:
    checkpoint = trained.checkpoints.get()
    job = services.create_evaluation(user, checkpoint_id=checkpoint.pk, dataset_version_id=trained.dataset_version_id)
    assert job.parent == trained and f"#{trained.number} step 40" in job.name
    assert config(job)["model"] == {
        "model": str(trained.model_version.folder),
        "adapter": str(checkpoint.folder),
    }


def test_a_checkpoint_that_goes_before_the_start_is_named(user, trained) -> None:
    checkpoint = trained.checkpoints.get()
    job = services.create_evaluation(user, checkpoint_id=checkpoint.pk, dataset_version_id=trained.dataset_version_id)
    checkpoint.folder.rmdir()
    with pytest.raises(ValueError, match="not there any more"):
        config(job)


def test_the_same_key_makes_one_job(user, trained) -> None:
    one, two = (services.create_evaluation(user, **asked(trained), idempotency_key="k") for _ in range(2))
    assert one == two


def test_a_viewer_may_not(trained) -> None:
    with pytest.raises(Forbidden):
        services.create_evaluation(make_user("eve", Role.VIEWER), **asked(trained))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model_version_id": None}, "evaluation.one_model"),
        ({"checkpoint_id": uuid.uuid4()}, "evaluation.one_model"),
        ({"checkpoint_id": uuid.uuid4(), "model_version_id": None}, "checkpoint.unknown"),
        ({"model_version_id": uuid.uuid4()}, "model.unknown"),
        ({"dataset_version_id": "nonsense"}, "dataset.unknown"),
        ({"settings": {"split": "test"}}, "evaluation.no_rows"),
        ({"settings": {"rules": ["praise"]}}, "rule.unknown"),
        ({"settings": {"speed": 9}}, "config.unknown"),
        ({"settings": {"rules": ["python_function module=mine.py"]}}, "rule.module_not_listed"),
        ({"baseline_version_id": uuid.uuid4()}, "evaluation.baseline_alone"),
        ({"reward_version_id": uuid.uuid4()}, "model.unknown"),
        ({"priority": 1000}, "priority.range"),
    ],
)
def test_bad_input_is_named_before_there_is_a_job(user, trained, change, code) -> None:
    assert code in codes(user, **asked(trained, **change))


def test_a_model_without_a_head_scores_nothing(user, trained) -> None:
    assert codes(user, **asked(trained, reward_version_id=trained.model_version_id)) == ["reward_model.no_head"]


def test_a_removed_checkpoint_is_gone(user, trained) -> None:
    Checkpoint.objects.update(removed_at=trained.created_at)
    key = trained.checkpoints.get().pk
    assert codes(user, checkpoint_id=key, dataset_version_id=trained.dataset_version_id) == ["checkpoint.gone"]


@pytest.mark.parametrize(
    ("data_format", "report", "settings", "code"),
    [
        ("text", {}, {"rules": ["length"]}, "evaluation.no_prompts"),
        ("prompts", {}, {"rows": 0}, "evaluation.nothing"),
        ("kto", {}, {"rules": ["exact_answer"]}, "rule.no_reference"),
        ("prompts", {"answers": {"prompts": 5, "answered": 4}}, {"rules": ["exact_answer"]}, "rule.no_reference"),
    ],
)
def test_data_must_hold_what_is_measured(trained, data_format, report, settings, code) -> None:
    DatasetVersion.objects.update(data_format=data_format, report=report)
    assert codes(make_user("bob", Role.EDITOR), **asked(trained, settings=settings)) == [code]


def test_a_reward_model_needs_answers(user, trained) -> None:
    judge = reward(trained)
    assert codes(user, **asked(trained, settings={"rows": 0}, reward_version_id=judge.pk)) == ["evaluation.no_answers"]


@pytest.mark.parametrize(
    ("data_format", "rows", "rules", "code"),
    [
        ("chat", 5, ["python_function module=mine.py"], "rule.module_not_listed"),
        ("chat", 0, ["length"], "evaluation.no_prompts"),
        ("text", 5, ["length"], "evaluation.no_prompts"),
    ],
)
def test_rules_at_the_evaluations_of_a_training_are_checked(trained, data_format, rows, rules, code) -> None:
    DatasetVersion.objects.update(data_format=data_format, rows_valid=rows)
    with pytest.raises(Invalid) as caught:
        services.create_training(make_user("bob", Role.EDITOR), **asked(trained, settings={"eval_rules": rules}))
    assert [problem.code for problem in caught.value.problems] == [code]
    assert caught.value.problems[0].loc[0] == "eval_rules"
