"""What can be done with registered models: register a finished folder, rename, put into the trash.

The registry starts nothing and moves no files; it is handed a folder below the data folder's ``models/``.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Conflict, Invalid
from mlxplatform.core.models import AuditEvent
from registry.models import ModelVersion, RegisteredModel

BLOCK = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a model folder."""

    kind: str
    model_type: str = ""
    parameters: int = 0
    quantization: dict[str, Any] | None = None
    context_length: int = 0
    license: str = ""
    source: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)  # name → sha256; computed when empty


def register(
    *,
    name: str,
    folder: Path,
    found: Found,
    owner: Any = None,
    base: ModelVersion | None = None,
    job_id: uuid.UUID | None = None,
    version_id: uuid.UUID | None = None,
) -> ModelVersion:
    """Register ``folder`` as the next version of the model called ``name``, which is made when needed.

    With a ``version_id`` that is registered already, that version is returned and nothing changes.
    """
    key = version_id or uuid.uuid4()
    if known := ModelVersion.objects.filter(pk=key).first():
        return known
    files = {n: h for n, h in found.files.items() if re.fullmatch(r"[0-9a-f]{64}", str(h))} or hashes(folder)
    size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
    with transaction.atomic():
        model = _model_called(name.strip()[:110] or "model", owner)
        version = ModelVersion.objects.create(
            id=key,
            model=model,
            n=(model.versions.aggregate(top=Max("n"))["top"] or 0) + 1,
            kind=found.kind,
            base=base,
            path=str(folder.relative_to(settings.HOME)),
            model_type=found.model_type[:60],
            parameters=found.parameters,
            quantization=found.quantization,
            context_length=found.context_length,
            bytes=size,
            files=files,
            license=found.license[:120],
            source=found.source,
            metrics=found.metrics,
            heads=found.heads,
            job_id=job_id,
        )
        AuditEvent.write(owner, "model.register", f"model {model.pk}", version=version.n, path=version.path)
    return version


def hashes(folder: Path) -> dict[str, str]:
    """The sha256 of every file in ``folder``, read in pieces."""
    found = {}
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.is_symlink()):
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
        found[path.name] = digest.hexdigest()
    return found


def rename(user: Any, model: RegisteredModel, name: str, description: str | None = None) -> RegisteredModel:
    """Give the model another name (1 to 120 characters, unique, trash included) and description."""
    require(user, Role.EDITOR)
    name = name.strip()
    if not 1 <= len(name) <= 120:
        raise Invalid("name.length", f"The name has {len(name)} characters.", "Give it 1 to 120.")
    before = model.name
    model.name = name
    if description is not None:
        model.description = description.strip()[:20_000]
    try:
        with transaction.atomic():
            model.save(update_fields=["name", "description"])
            AuditEvent.write(user, "model.rename", f"model {model.pk}", before=before, after=name)
    except IntegrityError as error:
        raise Conflict("model.name_taken", f"There is a model '{name}' already.", "Choose another name.") from error
    return model


def delete(user: Any, model: RegisteredModel) -> None:
    """Put the model into the trash. Its files stay, so that trainings that use it go on."""
    require(user, Role.EDITOR)
    _trash(user, model, "model.delete", timezone.now())


def restore(user: Any, model: RegisteredModel) -> None:
    """Take the model out of the trash."""
    require(user, Role.EDITOR)
    _trash(user, model, "model.restore", None)


def _trash(user: Any, model: RegisteredModel, action: str, at: Any) -> None:
    with transaction.atomic():
        model.deleted_at = at
        model.save(update_fields=["deleted_at"])
        AuditEvent.write(user, action, f"model {model.pk}", name=model.name)


def _model_called(name: str, owner: Any) -> RegisteredModel:
    """The model of this name, made when there is none. One in the trash keeps its name: a number is added."""
    for suffix in ("", *(f" {i}" for i in range(2, 1000))):
        model = RegisteredModel.objects.filter(name=name + suffix).first()
        if model is None:
            return RegisteredModel.objects.create(name=name + suffix, owner=owner)
        if model.deleted_at is None:
            return model
    raise Conflict("name.taken", f"A thousand models are called '{name}'.", "Choose another name.")
