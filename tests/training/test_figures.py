"""Tables of evaluations: only what may be compared is compared."""

from __future__ import annotations

import pytest

from tests.training.runs import make_job
from training import figures
from training.models import Evaluation, Job

pytestmark = pytest.mark.django_db


def evaluation(base: Job, settings_hash: str = "a", **values: float) -> Evaluation:
    job = make_job(kind="evaluate", model_version=base.model_version, dataset_version=base.dataset_version)
    return Evaluation.objects.create(
        job=job,
        model_version=base.model_version,
        dataset_version=base.dataset_version,
        settings_hash=settings_hash,
        values=values,
    )


def best(row: Evaluation) -> set[str]:
    found = figures.of(row, figures.columns([row]), Evaluation.objects.all())
    return {figure.measure.name for figure in found if figure.best}


def test_the_best_of_those_alike_is_marked() -> None:
    base = make_job()
    one = evaluation(base, loss=1.0, exact_answer=0.2, answer_tokens=5)
    two = evaluation(base, loss=2.0, exact_answer=0.3, answer_tokens=9)
    assert best(one) == {"loss"} and best(two) == {"exact_answer"}


def test_equal_figures_and_speeds_are_not_marked() -> None:
    base = make_job()
    one = evaluation(base, loss=1.0, tokens_per_second=9.0)
    evaluation(base, loss=1.0, tokens_per_second=8.0)
    assert best(one) == set()


def test_alone_or_asked_otherwise_nothing_is_best() -> None:
    base = make_job()
    one = evaluation(base, loss=1.0)
    evaluation(base, settings_hash="b", loss=2.0)
    evaluation(make_job(), loss=2.0)
    assert best(one) == set()


def test_a_column_for_all_that_any_row_has() -> None:
    base = make_job()
    rows = [evaluation(base, loss=1.0, loss_tokens=9.0), evaluation(base, reward=0.5)]
    assert [measure.name for measure in figures.columns(rows)] == ["loss", "reward"]


def test_an_evaluation_on_its_way_shows_what_is_known() -> None:
    job = make_job(kind="evaluate")
    job.metrics.create(name="loss", last_value=1.5)
    assert [(f.measure.name, f.value) for f in figures.of_job(job, Evaluation.objects.all())] == [("loss", 1.5)]
