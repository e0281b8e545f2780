"""A job in a terminal: what the line says, and the samples side by side."""

from __future__ import annotations

import io

import pytest

from mlxplatform.show import Line, describe, samples
from training.models import Job, Metric, Sample

pytestmark = pytest.mark.django_db


def job(**columns: object) -> Job:
    return Job.objects.create(number=1, name="demo", **columns)


def test_a_waiting_job_says_its_state() -> None:
    assert describe(job()) == "  demo: queued"


def test_an_import_says_its_phase() -> None:
    assert describe(job(kind="import_model", state="running", phase="convert")) == "  demo: convert"


def test_a_training_says_loss_speed_and_time_left() -> None:
    row = job(state="running", step=5, total_steps=20, phase="train")
    for name, value in {"train_loss": 1.5, "tokens_per_second": 61.4, "step_seconds": 2.0}.items():
        Metric.objects.create(job=row, name=name, last_value=value, last_step=5)
    line = describe(row)
    assert " 25 %" in line
    assert line.endswith("step 5/20 · loss 1.5000 · 61 tokens/s · about 30 s left")


def test_a_failure_says_why() -> None:
    assert describe(job(state="failed", message="The disk is full.")) == "  demo: failed (The disk is full.)"


def test_samples_stand_side_by_side() -> None:
    row = job(state="succeeded")
    for step, text in ((0, "old words"), (9, "new words")):
        Sample.objects.create(job=row, step=step, index=0, prompt="Why?", text=text)
    out = io.StringIO()
    samples(row, out)
    assert "Why?" in out.getvalue()
    assert any("old words" in line and "│ new words" in line for line in out.getvalue().splitlines())


def test_into_a_file_only_the_lines_that_stay_are_sure_to_be_written() -> None:
    out = io.StringIO()
    line = Line(out)
    line.show("first")
    line.show("soon after")
    line.show("the end", keep=True)
    assert out.getvalue().splitlines() == ["first", "the end"]
