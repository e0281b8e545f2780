"""What people can do with registered models: rename, throw away, take back."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Conflict, Invalid
from mlxplatform.core.models import AuditEvent
from registry.models import RegisteredModel


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
