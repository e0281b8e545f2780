"""What a finished job leaves behind: a registered model or data set, made exactly once.

Files first, outside of any transaction; then the rows in one. The id of what is made follows from the
job's, so a landing that was cut short is simply done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from mlxplatform.core.errors import DomainError
from registry.models import ModelVersion
from registry.services import Found, register
from training.engine.folders import places
from training.engine.run.journal import number
from training.models import Checkpoint, Dataset, DatasetVersion, Evaluation, Job
from training.orders import version_id

#: Files of a checkpoint that make the adapter in stock mlx-lm's form, beside those it was trained on top of; the
#: rest is for resuming.
ADAPTER_FILES = ("adapters.safetensors", "adapter_config.json")
FIGURES = ("val_loss", "best_val_loss", "first_val_loss", "test_loss", "first_test_loss", "best_step", "step",
           "trained_tokens", "peak_memory_gb",
           "best_val_reward", "first_val_reward", "val_reward", "first_test_reward", "test_reward")  # fmt: skip


def land(job: Job, result: dict[str, Any]) -> dict[str, str]:
    """Register what ``job`` made; returns ids for the job's result. Doing it twice changes nothing.

    Raises DomainError when the result is not what the engine promises, OSError when the disk refuses.
    """
    return LANDINGS[job.kind](job, result)


def _train(job: Job, result: dict[str, Any]) -> dict[str, str]:
    source = _inside(job.run_dir.root, result.get("checkpoint"))
    target = Path(settings.HOME) / "models" / str(version_id(job))
    if not target.exists():
        _publish(sorted({*(source / name for name in ADAPTER_FILES), *places.files(source)}), target)
    begun = job.model_version
    base = begun.whole if begun else None
    version = register(
        name=job.name,
        folder=target,
        found=Found(
            kind=ModelVersion.Kind.ADAPTER,
            model_type=base.model_type if base else "",
            context_length=base.context_length if base else 0,
            license=base.license if base else "",
            source={
                "kind": "training",
                "job": str(job.pk),
                "checkpoint": str(result.get("checkpoint")),
                **({"start": str(begun), "start_version": str(begun.pk)} if begun and begun != base else {}),
            },
            metrics={key: result[key] for key in FIGURES if number(result.get(key)) is not None},
            heads=places.heads(target),
        ),
        owner=job.owner,
        base=base,
        job_id=job.pk,
        version_id=version_id(job),
    )
    return {"model_version": str(version.pk), "model": str(version.model_id)}


def _import_model(job: Job, result: dict[str, Any]) -> dict[str, str]:
    target = Path(settings.HOME) / "models" / str(version_id(job))
    base = job.model_version if job.settings.get("base") else None
    if not (target / ("config.json" if base is None else "adapter_config.json")).is_file():
        raise DomainError("landing.no_model", "The imported model's folder is incomplete.", "Import it again.")
    version = register(
        name=str(job.settings.get("name") or job.name),
        folder=target,
        found=Found(
            kind=ModelVersion.Kind.BASE if base is None else ModelVersion.Kind.ADAPTER,
            model_type=str(result.get("model_type") or ""),
            parameters=_count(result.get("parameters")) if base is None else 0,
            quantization=_quantization(result) if base is None else None,
            context_length=_count(result.get("context_length")),
            license=str(result.get("license") or ""),
            source={
                **dict(job.settings.get("source", {})),
                "from": str(result.get("source") or ""),
                "revision": str(result.get("revision") or ""),
                "remote_code": result["remote_code"] if isinstance(result.get("remote_code"), list) else [],
            },
            files=result["files"] if isinstance(result.get("files"), dict) else {},
            heads=places.heads(target),
        ),
        owner=job.owner,
        base=base,
        job_id=job.pk,
        version_id=version_id(job),
    )
    return {"model_version": str(version.pk), "model": str(version.model_id)}


def _import_dataset(job: Job, result: dict[str, Any]) -> dict[str, str]:
    """A new version of the owner's data set of that name, or a new data set.

    The same rows twice share one folder, since it is named by its content.
    """
    sha256 = str(result.get("sha256"))
    folder = _inside(Path(settings.HOME) / "datasets", sha256)
    name = str(job.settings.get("name") or job.name)[:120]
    rows = result["rows"] if isinstance(result.get("rows"), dict) else {}
    with transaction.atomic():
        version = DatasetVersion.objects.filter(job=job).first()
        if version is None:
            found = Dataset.objects.filter(name=name, owner=job.owner, deleted_at=None).first()
            dataset = found or Dataset.objects.create(name=name, owner=job.owner)
            version = DatasetVersion.objects.create(
                dataset=dataset,
                n=(dataset.versions.aggregate(top=Max("n"))["top"] or 0) + 1,
                sha256=folder.name,
                data_format=str(result.get("data_format") or "")[:40],
                rows_train=_count(rows.get("train")),
                rows_valid=_count(rows.get("valid")),
                rows_test=_count(rows.get("test")),
                bytes=_count(result.get("bytes")),
                source=dict(job.settings.get("source", {})),
                report=result["report"] if isinstance(result.get("report"), dict) else {},
                job=job,
            )
    return {"dataset_version": str(version.pk), "dataset": str(version.dataset_id)}


def _evaluate(job: Job, result: dict[str, Any]) -> dict[str, str]:
    values = result.get("values")
    figures = {k: v for k, v in values.items() if number(v) is not None} if isinstance(values, dict) else {}
    if not figures or job.dataset_version is None:
        raise DomainError("landing.no_figures", "The evaluation has finished without a figure.", "Resume the job.")
    asked = {key: value for key, value in job.settings.items() if key != "checkpoint"}
    compared = {one.role: str(one.version_id) for one in job.inputs.all()}
    checkpoint = Checkpoint.objects.filter(pk=job.settings.get("checkpoint")).first()
    row, _ = Evaluation.objects.get_or_create(
        job=job,
        defaults={
            "model_version": None if checkpoint else job.model_version,
            "checkpoint": checkpoint,
            "dataset_version": job.dataset_version,
            "settings": asked,
            "settings_hash": hashlib.sha256(json.dumps([asked, compared], sort_keys=True).encode()).hexdigest(),
            "values": figures,
            "answered": _count(result.get("answered")),
        },
    )
    return {"evaluation": str(row.pk)}


def _inside(root: Path, name: Any) -> Path:
    """The existing folder ``name`` below ``root``; what the engine says may not lead anywhere else."""
    path = (root / str(name)).resolve()
    if not name or not path.is_relative_to(root.resolve()) or not path.is_dir():
        raise DomainError(
            "landing.no_folder",
            f"The engine finished, but its folder '{str(name)[:200]}' is not there.",
            "Resume the job; the last step is done again from the last checkpoint.",
        )
    return path


def _publish(files: list[Path], target: Path) -> None:
    """Make ``target`` of ``files``, complete or not at all: hard links where the disk can, else copies."""
    beside = target.with_name(f".part-{target.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True, mode=0o700)
    for file in files:
        try:
            os.link(file, beside / file.name)
        except FileNotFoundError as error:
            raise DomainError(
                "landing.no_file", f"The checkpoint holds no {file.name}.", "Resume the job to make it again."
            ) from error
        except OSError:
            shutil.copyfile(file, beside / file.name)
    os.replace(beside, target)


def _quantization(result: dict[str, Any]) -> dict[str, Any] | None:
    found = result.get("quantization")
    return found if isinstance(found, dict) else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


LANDINGS: dict[str, Callable[[Job, dict[str, Any]], dict[str, str]]] = {
    Job.Kind.TRAIN: _train,
    Job.Kind.IMPORT_MODEL: _import_model,
    Job.Kind.IMPORT_DATASET: _import_dataset,
    Job.Kind.MAKE_STUDENT: _import_model,
    Job.Kind.GENERATE_DATASET: _import_dataset,
    Job.Kind.EVALUATE: _evaluate,
}
