"""What the engine is told: the ``config.json`` of each kind of job, built from its row.

A new kind of job gets a function and a row in :data:`BUILDERS`. Everything is checked by the same
models that the engine uses, so a config that cannot be run is refused before a process is started.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings

from training import starts
from training.engine import SCHEMA
from training.engine.catalog.kinds import KINDS
from training.engine.config.training import check
from training.engine.errors import ConfigError
from training.engine.run.rundir import write_json
from training.models import Checkpoint, Job


def version_id(job: Job) -> uuid.UUID:
    """The id of the model version that ``job`` makes: the same however often its end is handled."""
    return uuid.uuid5(job.pk, "model version")


def write_config(job: Job) -> None:
    """Write the job's ``config.json``, unless it is there: a resumed job runs on what it began with.

    Raises ConfigError with all problems, StorageError when the disk refuses.
    """
    if job.run_dir.config.exists():
        return
    job.run_dir.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(job.run_dir.config, config(job))


def config(job: Job) -> dict[str, Any]:
    """The whole request as the engine reads it. Raises ConfigError."""
    raw = {**BUILDERS[job.kind](job), "schema": SCHEMA}
    return check(KINDS[job.kind].config, raw).model_dump(mode="json", by_alias=True)


def _train(job: Job) -> dict[str, Any]:
    if job.model_version is None or job.dataset_version is None:
        missing = "model" if job.model_version is None else "data set"
        raise ConfigError("job.incomplete", f"The job has no {missing}.", "Clone it and choose one.")
    return {
        **job.settings,
        **starts.folders(job.model_version),
        "others": {one.role: starts.place(one.version).model_dump(mode="json") for one in job.inputs.all()},
        "data": str(job.dataset_version.folder),
        "data_format": job.dataset_version.data_format,
        "kernel_cache": str(_home() / "cache" / "kernels"),
    }


def _evaluate(job: Job) -> dict[str, Any]:
    if job.model_version is None or job.dataset_version is None:
        missing = "model" if job.model_version is None else "data set"
        raise ConfigError("job.incomplete", f"The job has no {missing}.", "Ask for the evaluation again.")
    others = {one.role: starts.place(one.version).model_dump(mode="json") for one in job.inputs.all()}
    place = starts.place(job.model_version)
    if key := job.settings.get("checkpoint"):
        place = starts.checkpoint_place(job.model_version, Checkpoint.objects.filter(pk=key, removed_at=None).first())
    return {
        **{name: value for name, value in job.settings.items() if name != "checkpoint"},
        **others,
        "model": place.model_dump(mode="json"),
        "data": str(job.dataset_version.folder),
        "kernel_cache": str(_home() / "cache" / "kernels"),
    }


def _import_model(job: Job) -> dict[str, Any]:
    base = {"base": str(job.model_version.folder)} if job.settings.get("base") and job.model_version else {}
    return {**_asked(job), **base, "target": str(_home() / "models" / str(version_id(job)))}


def _import_dataset(job: Job) -> dict[str, Any]:
    return {**_asked(job), "target": str(_home() / "datasets")}


def _make_student(job: Job) -> dict[str, Any]:
    return {
        "model": _place(job),
        "layers": job.settings.get("layers"),
        "name": job.settings.get("name", ""),
        "target": str(_home() / "models" / str(version_id(job))),
    }


def _generate_dataset(job: Job) -> dict[str, Any]:
    if job.dataset_version is None:
        raise ConfigError("job.incomplete", "The job has no data set.", "Ask for it again and choose one.")
    return {
        "model": _place(job),
        "data": str(job.dataset_version.folder),
        "draw": job.settings.get("draw", {}),
        "target": str(_home() / "datasets"),
    }


def _place(job: Job) -> dict[str, Any]:
    """Where the job's model lies."""
    if job.model_version is None:
        raise ConfigError("job.incomplete", "The job has no model.", "Ask for it again and choose one.")
    return starts.place(job.model_version).model_dump(mode="json")


def _asked(job: Job) -> dict[str, Any]:
    """The settings of an import; ``name`` is for the registry, not for the engine."""
    return {key: value for key, value in job.settings.items() if key != "name"}


def _home() -> Path:
    return Path(settings.HOME)


BUILDERS: dict[str, Callable[[Job], dict[str, Any]]] = {
    Job.Kind.TRAIN: _train,
    Job.Kind.IMPORT_MODEL: _import_model,
    Job.Kind.IMPORT_DATASET: _import_dataset,
    Job.Kind.MAKE_STUDENT: _make_student,
    Job.Kind.GENERATE_DATASET: _generate_dataset,
    Job.Kind.EVALUATE: _evaluate,
}
