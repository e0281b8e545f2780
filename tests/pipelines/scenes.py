"""Runs as a worker would have left them: jobs are moved by hand, everything else by the services."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.db.models import Max
from django.utils import timezone

from pipelines import services
from pipelines.models import PipelineRun, StepRun
from registry.models import ModelVersion, RegisteredModel
from training.landing import land
from training.models import Dataset, DatasetVersion, Job, Sample

LOSSES = {"first_val_loss": 2.8731, "val_loss": 1.9127, "best_val_loss": 1.8942, "train_loss": 1.7}


def make_data(name: str, data_format: str) -> DatasetVersion:
    """A data set with rows to hold out."""
    row = Dataset.objects.create(name=name)
    version = DatasetVersion.objects.create(
        dataset=row, n=1, sha256=uuid.uuid4().hex * 2, data_format=data_format, rows_train=480, rows_valid=60
    )
    version.folder.mkdir(parents=True)
    return version


def make_model(name: str, **columns: Any) -> ModelVersion:
    """A base model with a folder."""
    model, _ = RegisteredModel.objects.get_or_create(name=name)
    n = (model.versions.aggregate(top=Max("n"))["top"] or 0) + 1
    about = {"kind": "base", "path": f"models/{uuid.uuid4()}", "model_type": "llama", "parameters": 135_000_000}
    version = ModelVersion.objects.create(model=model, n=n, **{**about, **columns})
    version.folder.mkdir(parents=True, exist_ok=True)
    return version


class Scene:
    """What runs can be made of. ``minutes`` of a run have passed with each job that ends."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.model = make_model("SmolLM2-135M-Instruct")
        self.student = make_model("SmolLM2-small")
        self.data = make_data("Support tickets", "chat")
        self.pairs = make_data("Support preferences", "preference")

    def inputs(self, template: str) -> dict[str, str]:
        """A choice that fits the template."""
        rows = {"model": self.model, "student": self.student, "teacher": self.model, "data": self.data}
        rows["pairs"] = self.pairs
        asked = services.template_definition(template).inputs
        return {name: str(rows[name].pk) if name in rows else "40" for name in asked}

    def start(self, template: str) -> PipelineRun:
        """A run whose first steps have begun."""
        pipeline = services.from_template(self.owner, template)
        run = services.start(self.owner, pipeline, self.inputs(template))
        services.advance(run.pk)
        run.refresh_from_db()
        return run

    def goes_on(self, run: PipelineRun, name: str, share: float = 0.63) -> Job:
        """The step's job is at work."""
        job = self._job(run, name)
        began = timezone.now() - timedelta(seconds=200)
        steps = {"step": int(1000 * share), "total_steps": 1000, "progress": share, "phase": "train"}
        Job.objects.filter(pk=job.pk).update(state="running", started_at=began, **steps)
        return job

    def succeeds(self, run: PipelineRun, name: str, **figures: float) -> None:
        """The step's job ends well, and what is next begins. One that was reused has done so already."""
        step, job = run.steps.get(name=name), self._job(run, name)
        if step.has_ended:
            return
        ended = {"state": "succeeded", "progress": 1.0, "step": 40, "total_steps": 40}
        if step.kind == "evaluate":
            result = land(job, {"values": figures or {"loss": 1.9127, "perplexity": 6.77}, "answered": 8})
        else:
            made = self._version(job, figures)
            result = {"model_version": str(made.pk)}
        moments = {"started_at": step.started_at + timedelta(seconds=2), "ended_at": timezone.now()}
        Job.objects.filter(pk=job.pk).update(result=result, **ended, **moments)
        services.advance(run.pk)

    def fails(self, run: PipelineRun, name: str) -> None:
        """The step's job runs out of memory."""
        said = {"reason": "memory", "message": "The machine ran out of memory.", "hint": "Try shorter sequences."}
        now = timezone.now()
        Job.objects.filter(pk=self._job(run, name).pk).update(state="failed", started_at=now, ended_at=now, **said)
        services.advance(run.pk)

    def approval(self) -> tuple[PipelineRun, StepRun]:
        """A chatbot that waits for a person."""
        run = self.start("chatbot")
        for name in ("sft", "dpo", "measure"):
            self.succeeds(run, name)
        run.refresh_from_db()
        return run, run.steps.get(name="approve")

    def stretch(self, run: PipelineRun, minutes: float) -> None:
        """Let the run have begun ``minutes`` ago, its steps one after the other since then."""
        now = timezone.now()
        begin = now - timedelta(minutes=minutes)
        rows = [row for row in run.steps.select_related("job") if row.started_at is not None]
        PipelineRun.objects.filter(pk=run.pk).update(created_at=begin)
        share = timedelta(minutes=minutes / max(1, len(rows)))
        for n, row in enumerate(rows):
            start, end = begin + n * share, begin + (n + 1) * share
            StepRun.objects.filter(pk=row.pk).update(started_at=start, ended_at=end if row.ended_at else None)
            if row.job is not None and row.reused_id is None:
                ended = end if row.job.ended_at else None
                Job.objects.filter(pk=row.job.pk).update(started_at=start + share / 5, ended_at=ended)

    def _job(self, run: PipelineRun, name: str) -> Job:
        job = run.steps.get(name=name).job
        assert job is not None, f"step {name} has no job"
        return job

    def _version(self, job: Job, figures: dict[str, float]) -> ModelVersion:
        is_judge = str(job.settings["method"]["name"]) == "reward_model"
        base = job.model_version.whole if job.model_version else self.model
        for index, (asked, answer) in enumerate((("How do I reset my password?", "Open Settings, then Security."),)):
            Sample.objects.create(job=job, step=0, index=index, prompt=asked, text="Password is a word that passes.")
            Sample.objects.create(job=job, step=40, index=index, prompt=asked, text=answer)
        about = {"kind": "adapter", "base": base, "job_id": job.pk, "metrics": figures or LOSSES}
        return make_model(f"{job.name} {job.number}", heads=["score"] if is_judge else [], **about)
