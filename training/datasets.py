"""What people can do with data sets: rename, throw away, take back. Imports: ``training.services``."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid
from mlxplatform.core.models import AuditEvent
from training import validation
from training.models import Dataset


def rename(user: Any, dataset: Dataset, name: str) -> Dataset:
    """Give the data set another name (1 to 120 characters). Raises Invalid, Forbidden."""
    require(user, Role.EDITOR)
    if problems := validation.name_problems(name):
        raise Invalid.of(problems)
    with transaction.atomic():
        before, dataset.name = dataset.name, name.strip()
        dataset.save(update_fields=["name"])
        AuditEvent.write(user, "dataset.rename", f"dataset {dataset.pk}", before=before, after=dataset.name)
    return dataset


def delete(user: Any, dataset: Dataset) -> None:
    """Put the data set into the trash. Its files stay, so that trainings that use it go on."""
    _trash(user, dataset, "dataset.delete", timezone.now())


def restore(user: Any, dataset: Dataset) -> None:
    """Take the data set out of the trash."""
    _trash(user, dataset, "dataset.restore", None)


def _trash(user: Any, dataset: Dataset, action: str, at: Any) -> None:
    require(user, Role.EDITOR)
    with transaction.atomic():
        dataset.deleted_at = at
        dataset.save(update_fields=["deleted_at"])
        AuditEvent.write(user, action, f"dataset {dataset.pk}", name=dataset.name)
