"""New jobs. ``settings`` of a job hold, for a training, the whole ``TrainSettings``; for an import
``{"name", "source", …options}``, to which the worker adds the target."""

from __future__ import annotations

from typing import Any

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid
from mlxplatform.core.models import AuditEvent
from registry.models import ModelVersion
from training import evaluable, memory_plans, uploads, validation
from training.engine.config.imports import ImportDatasetConfig, ImportModelConfig
from training.engine.config.training import TrainSettings, check
from training.engine.errors import ConfigError, Problem
from training.models import DatasetVersion, Job
from training.services.queue import enqueue, find, made_before


def create_training(
    user: Any,
    *,
    name: str = "",
    model_version_id: Any,
    dataset_version_id: Any,
    settings: dict[str, Any] | None = None,
    priority: int = 0,
    parent: Any = None,
    idempotency_key: str = "",
    force_memory: bool = False,
    others: dict[str, Any] | None = None,
) -> Job:
    """Queue a training and return its job; a doubled ``idempotency_key`` returns the first one.

    ``parent`` is a Job or the id of one. ``force_memory``: also when its plan says that it does not fit.
    ``others``: ids of further model versions, by role (``teacher``, ``reward_model``).
    Raises Invalid with all problems, TooMuch, Forbidden.
    """
    require(user, Role.EDITOR)
    if made := made_before(user, idempotency_key):
        return made
    problems = validation.name_problems(name, needed=False) + validation.priority_problems(priority)
    checked, model, data, more = _looked_at(user, settings or {}, model_version_id, dataset_version_id)
    inputs, unfit = _others(user, checked, others or {}, model)
    problems += more + unfit
    mother = parent if isinstance(parent, Job) or not parent else find(Job, user, parent)
    if parent and mother is None:
        problems.append(Problem(("parent",), "job.unknown", "There is no such parent job.", "Leave it empty."))
    if not problems and checked and model and data and not force_memory:
        problems += memory_plans.problems(checked, model, data, inputs)
    if problems or checked is None or model is None or data is None:
        raise Invalid.of(problems)
    return enqueue(
        user,
        Job.Kind.TRAIN,
        idempotency_key,
        name=name.strip() or validation.training_name(model, data),
        inputs=inputs,
        settings=checked.model_dump(mode="json"),
        model_version=model,
        dataset_version=data,
        parent=mother or None,
        priority=priority,
    )


def checked_training(
    user: Any,
    settings: dict[str, Any],
    model_version_id: Any,
    dataset_version_id: Any,
    others: dict[str, Any] | None = None,
) -> tuple[TrainSettings, ModelVersion, DatasetVersion, dict[str, ModelVersion]]:
    """What a training that is only asked about would begin with; the last are further models by role.

    Raises Invalid with all problems.
    """
    checked, model, data, problems = _looked_at(user, settings, model_version_id, dataset_version_id)
    inputs, unfit = _others(user, checked, others or {}, model)
    problems += unfit
    if problems or checked is None or model is None or data is None:
        raise Invalid.of(problems)
    return checked, model, data, inputs


def _looked_at(
    user: Any, settings: dict[str, Any], model_version_id: Any, dataset_version_id: Any
) -> tuple[TrainSettings | None, ModelVersion | None, DatasetVersion | None, list[Problem]]:
    """Settings, model and data as far as they are right, and what speaks against them."""
    problems: list[Problem] = []
    checked: TrainSettings | None = None
    try:
        checked = check(TrainSettings, settings)
    except ConfigError as error:
        problems += error.problems
    model = find(ModelVersion, user, model_version_id)
    data = find(DatasetVersion, user, dataset_version_id)
    problems += validation.model_problems(model, checked or settings) + validation.data_problems(data, checked)
    problems += validation.rank_problems(checked) + evaluable.of_training(checked, data) if checked else []
    return checked, model, data, problems


def _others(
    user: Any, settings: TrainSettings | None, asked: dict[str, Any], model: ModelVersion | None
) -> tuple[dict[str, ModelVersion], list[Problem]]:
    """The further models that the method needs, as far as they are there, and what speaks against them."""
    found = {role: find(ModelVersion, user, key) for role, key in asked.items() if key}
    problems = validation.other_problems(settings, found, model) if settings is not None else []
    return {role: version for role, version in found.items() if version is not None}, problems


def create_model_import(
    user: Any,
    source: dict[str, Any],
    name: str = "",
    *,
    base_version_id: Any = None,
    idempotency_key: str = "",
) -> Job:
    """Queue the import of a model. ``source``: ``{"kind": "gguf"|"folder"|"hub", …}`` as in
    ``training.engine.config.imports``; for ``gguf`` an ``"upload"`` id may stand in place of the ``"path"``.
    ``base_version_id``: the model that an adapter in a folder or at the hub belongs on."""
    require(user, Role.EDITOR)
    if made := made_before(user, idempotency_key):
        return made
    source, name, problems = validation.import_source(source, name)
    base: ModelVersion | None = find(ModelVersion, user, base_version_id) if base_version_id else None
    problems += validation.base_problems(base) if base_version_id else []
    asked = {"source": source, **({"base": str(base.folder)} if base else {})}
    checked = validation.checked_import(ImportModelConfig, asked, problems)
    return enqueue(
        user,
        Job.Kind.IMPORT_MODEL,
        idempotency_key,
        name=f"Import {name}"[:120],
        settings={"name": name, **checked},
        model_version=base,
    )


def create_dataset_import(
    user: Any,
    source: dict[str, Any],
    name: str = "",
    options: dict[str, Any] | None = None,
    *,
    idempotency_key: str = "",
) -> Job:
    """Queue the import of a data set. ``source``: ``{"kind": "file"|"hub"|"python_docs", …}``; for ``file``
    an ``"upload"`` id may stand in place of the ``"path"``. ``options``: the other fields of
    ``training.engine.config.imports.ImportDatasetConfig``."""
    require(user, Role.EDITOR)
    if made := made_before(user, idempotency_key):
        return made
    source, name, problems = validation.import_source(source, name)
    asked = validation.checked_import(ImportDatasetConfig, {**(options or {}), "source": source}, problems)
    return enqueue(
        user, Job.Kind.IMPORT_DATASET, idempotency_key, name=f"Import {name}"[:120], settings={"name": name, **asked}
    )


def save_upload(user: Any, file: uploads.Uploaded) -> str:
    """Keep an uploaded file and return the id by which an import names it."""
    require(user, Role.EDITOR)
    path = uploads.save(file)
    AuditEvent.write(user, "upload", f"upload {path.parent.name}", file=path.name, bytes=path.stat().st_size)
    return path.parent.name


def clone_settings(job: Job) -> dict[str, Any]:
    """The arguments of :func:`create_training` that would ask for ``job`` again."""
    return {
        "name": "",
        "model_version_id": str(job.model_version_id or ""),
        "dataset_version_id": str(job.dataset_version_id or ""),
        "others": {one.role: str(one.version_id) for one in job.inputs.all()},
        "settings": job.settings,
        "priority": job.priority,
        "parent": str(job.pk),
    }
