"""What people can do with jobs. Pages, the API and commands call these and nothing below them.

Each checks the role, reports all problems at once, writes in one short transaction together with its
event and its audit row, and sends its signal after commit. None of them touches a process: the worker
sees what was asked in the row. ``settings`` of a job hold, for a training, the whole ``TrainSettings``;
for an import ``{"name", "source", …options}``, to which the worker adds the target.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from mlxplatform.core.access import Role, require
from mlxplatform.core.env import env
from mlxplatform.core.errors import Conflict, Invalid, TooMuch
from mlxplatform.core.lifecycle import move
from mlxplatform.core.models import AuditEvent
from registry.models import ModelVersion
from training import memory_plans, uploads, validation
from training.engine.catalog.kinds import KINDS
from training.engine.config import TrainSettings, check
from training.engine.errors import ConfigError, Problem
from training.engine.imports import ImportDatasetConfig, ImportModelConfig
from training.models import DatasetVersion, Job, JobEvent
from training.signals import job_finished, job_queued
from training.states import RESUMABLE, JobState

MAX_NOTES = 20_000


# -- create --------------------------------------------------------------------------------------


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
) -> Job:
    """Queue a training and return its job; a doubled ``idempotency_key`` returns the first one.

    ``parent`` is a Job or the id of one. ``force_memory``: also when its plan says that it
    does not fit. Raises Invalid with all problems, TooMuch, Forbidden.
    """
    require(user, Role.EDITOR)
    if first := _first(user, idempotency_key):
        return first
    problems = validation.name_problems(name, needed=False) + validation.priority_problems(priority)
    checked, model, data, more = _looked_at(user, settings or {}, model_version_id, dataset_version_id)
    problems += more
    mother = parent if isinstance(parent, Job) or not parent else _find(Job, user, parent)
    if parent and mother is None:
        problems.append(Problem(("parent",), "job.unknown", "There is no such parent job.", "Leave it empty."))
    if not problems and checked and model and data and not force_memory:
        problems += memory_plans.problems(checked, model, data)
    if problems or checked is None or model is None or data is None:
        raise Invalid.of(problems)
    return _queue(
        user,
        Job.Kind.TRAIN,
        idempotency_key,
        name=name.strip() or validation.training_name(model, data),
        settings=checked.model_dump(mode="json"),
        model_version=model,
        dataset_version=data,
        parent=mother or None,
        priority=priority,
    )


def checked_training(
    user: Any, settings: dict[str, Any], model_version_id: Any, dataset_version_id: Any
) -> tuple[TrainSettings, ModelVersion, DatasetVersion]:
    """What a training that is only asked about would begin with. Raises Invalid with all problems."""
    checked, model, data, problems = _looked_at(user, settings, model_version_id, dataset_version_id)
    if problems or checked is None or model is None or data is None:
        raise Invalid.of(problems)
    return checked, model, data


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
    model = _find(ModelVersion, user, model_version_id)
    data = _find(DatasetVersion, user, dataset_version_id)
    problems += validation.model_problems(model, checked or settings) + validation.data_problems(data)
    problems += validation.rank_problems(checked) if checked else []
    return checked, model, data, problems


def create_model_import(user: Any, source: dict[str, Any], name: str = "", *, idempotency_key: str = "") -> Job:
    """Queue the import of a model. ``source``: ``{"kind": "gguf"|"folder"|"hub", …}`` as in
    ``training.engine.imports``; for ``gguf`` an ``"upload"`` id may stand in place of the ``"path"``."""
    require(user, Role.EDITOR)
    if first := _first(user, idempotency_key):
        return first
    source, name, problems = validation.import_source(source, name)
    asked = validation.checked_import(ImportModelConfig, {"source": source}, problems)
    return _queue(
        user, Job.Kind.IMPORT_MODEL, idempotency_key, name=f"Import {name}"[:120], settings={"name": name, **asked}
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
    ``training.engine.imports.ImportDatasetConfig``."""
    require(user, Role.EDITOR)
    if first := _first(user, idempotency_key):
        return first
    source, name, problems = validation.import_source(source, name)
    asked = validation.checked_import(ImportDatasetConfig, {**(options or {}), "source": source}, problems)
    return _queue(
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
        "settings": job.settings,
        "priority": job.priority,
        "parent": str(job.pk),
    }


# -- end and resume ------------------------------------------------------------------------------


def request_stop(user: Any, job: Job) -> Job:
    """Ask the job to save a checkpoint and end. A queued job is stopped at once. Asking twice is harmless."""
    return _request(user, job, "stop_requested_at", "stop")


def request_pause(user: Any, job: Job) -> Job:
    """As :func:`request_stop`, but the job ends ``paused``."""
    return _request(user, job, "pause_requested_at", "pause")


def request_kill(user: Any, job: Job) -> Job:
    """Ask for the job's end without a new checkpoint; what the last one holds is kept."""
    return _request(user, job, "kill_requested_at", "kill")


def resume(user: Any, job: Job) -> Job:
    """Queue a stopped, paused or failed job again: same job, new attempt, from its newest checkpoint."""
    require(user, Role.EDITOR)
    _room_in_queue()
    with transaction.atomic():
        job = _locked(job)
        if job.state == JobState.SUCCEEDED:
            raise Conflict(
                "job.succeeded",
                f"Job #{job.number} has succeeded and stays as it is.",
                "To continue with other settings, start a new job from it (Clone).",
            )
        if job.state not in RESUMABLE:
            raise Conflict("job.not_resumable", f"Job #{job.number} is {job.state}.", "Stop or pause it first.")
        move(
            job,
            JobState.QUEUED,
            only_from=RESUMABLE,
            stop_requested_at=None,
            pause_requested_at=None,
            kill_requested_at=None,
            reason="",
            message="",
            hint="",
            queued_at=timezone.now(),
            ended_at=None,
        )
        AuditEvent.write(user, "job.resume", f"job {job.pk}")
        _announce(job_queued, job)
    return _now(job)


# -- change --------------------------------------------------------------------------------------


def change(
    user: Any, job: Job, *, name: str | None = None, notes: str | None = None, priority: int | None = None
) -> Job:
    """Change what is given of name, notes (plain text) and priority (-100 to 100, higher starts first)."""
    require(user, Role.EDITOR)
    problems = validation.name_problems(name) if name is not None else []
    problems += validation.priority_problems(priority) if priority is not None else []
    if notes is not None and len(notes) > MAX_NOTES:
        text = f"The notes have more than {MAX_NOTES} characters."
        problems.append(Problem(("notes",), "notes.too_long", text, "Shorten them."))
    if problems:
        raise Invalid.of(problems)
    asked = {"name": name and name.strip(), "notes": notes, "priority": priority}
    with transaction.atomic():
        job = _locked(job)
        new = {column: value for column, value in asked.items() if value not in (None, getattr(job, column))}
        before = {column: getattr(job, column) for column in new if column != "notes"}
        for column, value in new.items():
            setattr(job, column, value)
        job.save(update_fields=list(new))
        AuditEvent.write(user, "job.change", f"job {job.pk}", changed=sorted(new), before=before)
    return job


def rename(user: Any, job: Job, name: str) -> Job:
    """Give the job another name."""
    return change(user, job, name=name)


def set_notes(user: Any, job: Job, notes: str) -> Job:
    """Replace the job's notes."""
    return change(user, job, notes=notes)


def set_priority(user: Any, job: Job, priority: int) -> Job:
    """Move the job forward or back in the queue."""
    return change(user, job, priority=priority)


def delete(user: Any, job: Job) -> Job:
    """Put the job into the trash; a queued one is stopped first. Raises Conflict while it is active."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        job = _locked(job)
        if job.is_active:
            raise Conflict("job.active", f"Job #{job.number} is {job.state}.", "Stop it, then delete it.")
        if job.state == JobState.QUEUED:
            _stop_queued(user, job)
        job.deleted_at = timezone.now()
        job.save(update_fields=["deleted_at"])
        AuditEvent.write(user, "job.delete", f"job {job.pk}", number=job.number)
    return _now(job)


def restore(user: Any, job: Job) -> Job:
    """Take the job out of the trash."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        job = _locked(job)
        job.deleted_at = None
        job.save(update_fields=["deleted_at"])
        AuditEvent.write(user, "job.restore", f"job {job.pk}", number=job.number)
    return job


# -- inside --------------------------------------------------------------------------------------


def _first(user: Any, key: str) -> Job | None:
    """The job that was made with this key before."""
    if len(key) > 120:
        raise Invalid("idempotency.too_long", "The idempotency key has more than 120 characters.", "Use a UUID.")
    return Job.objects.filter(owner=user, idempotency_key=key).first() if key else None


def _queue(user: Any, kind: str, key: str, **columns: Any) -> Job:
    """Insert a queued job with the next number. A lost race for number or key is run again."""
    _room_in_queue()
    for last in (False, False, True):
        try:
            with transaction.atomic():
                number = (Job.objects.aggregate(top=Max("number"))["top"] or 0) + 1
                job = Job.objects.create(
                    number=number, kind=kind, resource=KINDS[kind].resource, owner=user, idempotency_key=key, **columns
                )
                job.record_move("", JobState.QUEUED)
                AuditEvent.write(user, "job.create", f"job {job.pk}", number=number, kind=str(kind))
                _announce(job_queued, job)
            return _now(job)
        except IntegrityError:
            if first := _first(user, key):
                return first
            if last:
                raise
    raise AssertionError("the loop returns or raises")


def _room_in_queue() -> None:
    limit = env().max_queued
    if Job.objects.waiting().count() >= limit:
        raise TooMuch("queue.full", f"{limit} jobs are waiting already.", "Delete some, or raise MLXP_MAX_QUEUED.")
    uploads.need_disk()


def _announce(signal: Any, job: Job) -> None:
    """Send the signal after commit; a receiver's fault must not undo what was done."""
    pk = job.pk
    transaction.on_commit(lambda: signal.send_robust(sender=Job, job_id=pk))


def _locked(job: Job) -> Job:
    """The row as it stands now, held until the end of the transaction."""
    return Job.objects.select_for_update().get(pk=job.pk)


def _now(job: Job) -> Job:
    """The row with the number of the event that was written last."""
    job.refresh_from_db()
    return job


def _stop_queued(user: Any, job: Job) -> None:
    move(
        job,
        JobState.STOPPED,
        only_from={JobState.QUEUED},
        reason="cancelled",
        message=f"Stopped by {user.username} before it started.",
        hint="Resume puts it back into the queue.",
        ended_at=timezone.now(),
    )
    _announce(job_finished, job)


def _request(user: Any, job: Job, column: str, word: str) -> Job:
    require(user, Role.EDITOR)
    with transaction.atomic():
        job = _locked(job)
        if job.state == JobState.QUEUED:
            _stop_queued(user, job)
        elif not job.is_active:
            raise Conflict("job.not_running", f"Job #{job.number} is {job.state} already.", "There is nothing to end.")
        elif getattr(job, column) is not None:
            return job
        else:
            setattr(job, column, timezone.now())
            job.save(update_fields=[column])
            line = {"level": "info", "message": f"{user.username} asked for: {word}."}
            JobEvent.objects.append(job.pk, [("log", line)])
        AuditEvent.write(user, f"job.{word}", f"job {job.pk}", number=job.number)
    return _now(job)


def _find(table: Any, user: Any, key: Any) -> Any:
    """The visible row with this id that is not in the trash, or None."""
    try:
        row = table.objects.visible_to(user).filter(pk=uuid.UUID(str(key))).first()
    except ValueError:
        return None
    holder = getattr(row, "model", None) or getattr(row, "dataset", None) or row
    return None if getattr(holder, "deleted_at", None) else row
