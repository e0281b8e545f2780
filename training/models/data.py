"""Data sets: a name, and immutable versions that are folders named by their content's hash."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils import timezone

from mlxplatform.core.access import VisibleQuerySet


class Dataset(models.Model):
    """A data set with a name."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=120)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(null=True, editable=False)

    objects = VisibleQuerySet["Dataset"].as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @property
    def newest(self) -> DatasetVersion | None:
        """The version with the highest number."""
        return self.versions.order_by("-n").first()


class DatasetVersion(models.Model):
    """Normalised rows of one import: ``datasets/<sha256>/{train,valid,test}.jsonl``."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="versions")
    n = models.PositiveIntegerField(editable=False)
    sha256 = models.CharField(max_length=64, db_index=True, help_text="Covers rows, format and split.")
    data_format = models.CharField(max_length=40)
    rows_train = models.PositiveIntegerField(default=0)
    rows_valid = models.PositiveIntegerField(default=0)
    rows_test = models.PositiveIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)
    source = models.JSONField(default=dict)
    report = models.JSONField(default=dict, help_text="What the validation found.")
    job = models.ForeignKey("training.Job", null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = VisibleQuerySet["DatasetVersion"].as_manager()

    class Meta:
        ordering = ["dataset", "-n"]
        constraints = [models.UniqueConstraint(fields=["dataset", "n"], name="one_data_version_per_number")]

    def __str__(self) -> str:
        return f"{self.dataset.name} v{self.n}"

    @property
    def folder(self) -> Path:
        """Absolute path of the version's folder."""
        return Path(settings.HOME) / "datasets" / self.sha256

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return self.rows_train + self.rows_valid + self.rows_test
