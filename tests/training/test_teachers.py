"""A training with a teacher, before there is a job."""

from __future__ import annotations

import json

import pytest

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.errors import Invalid
from registry.models import ModelVersion
from tests.training.runs import make_job
from training import memory_plans, services
from training.engine.config.training import TrainSettings
from training.models import Job

pytestmark = pytest.mark.django_db


def model(vocabulary: dict[str, int]) -> ModelVersion:
    """A registered folder with these tokens."""
    version = make_job().model_version
    words = {"model": {"vocab": vocabulary}, "added_tokens": []}
    (version.folder / "tokenizer.json").write_text(json.dumps(words))
    (version.folder / "config.json").write_text(json.dumps({"vocab_size": len(vocabulary)}))
    return version


def ask(teacher: ModelVersion | None, **method: object) -> Job:
    student = model({"a": 0, "b": 1, "c": 2})
    return services.create_training(
        make_user("ed", Role.EDITOR),
        model_version_id=student.pk,
        dataset_version_id=make_job().dataset_version_id,
        settings={"method": {"name": "distillation", **method}},
        others={"teacher": teacher.pk} if teacher else {},
    )


def refused(teacher: ModelVersion | None, **method: object) -> dict[str, str]:
    with pytest.raises(Invalid) as refusal:
        ask(teacher, **method)
    assert not Job.objects.filter(settings__has_key="method").exists()
    return {problem.code: problem.message for problem in refusal.value.problems}


def test_a_teacher_with_the_same_tokens_is_taken():
    teacher = model({"a": 0, "b": 1, "c": 2, "d": 3})
    assert ask(teacher, top_k=4).inputs.get().version == teacher


def test_other_tokens_are_named():
    assert "'b'" in refused(model({"a": 0, "c": 1, "b": 2}), top_k=0)["teacher.other_tokenizer"]


def test_more_tokens_than_the_teacher_knows():
    assert set(refused(model({"a": 0, "b": 1, "c": 2}), top_k=4)) == {"teacher.top_k"}


def test_none_at_all():
    assert set(refused(None)) == {"teacher.missing"}


def test_a_plan_of_memory_is_asked_with_the_teacher():
    teacher, job = model({"a": 0}), make_job()
    asked = memory_plans.question(TrainSettings(), job.model_version, job.dataset_version, {"teacher": teacher})
    assert asked["others"] == {"teacher": {"model": str(teacher.folder), "adapter": None}}
