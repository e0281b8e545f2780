"""Registered models: a name, numbered versions that are folders on disk, aliases that point at them."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils import timezone

from mlxplatform.core.access import VisibleQuerySet


class RegisteredModel(models.Model):
    """A model with a name people know."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=120, unique=True)
    description = models.TextField(blank=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(null=True, editable=False)

    objects = VisibleQuerySet["RegisteredModel"].as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def newest(self) -> ModelVersion | None:
        """The version with the highest number."""
        return self.versions.order_by("-n").first()


class ModelVersion(models.Model):
    """One immutable folder of weights. Its files are named with their sha256."""

    class Kind(models.TextChoices):
        BASE = "base", "Base model"
        ADAPTER = "adapter", "Adapter"
        FULL = "full", "Fine-tuned model"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(RegisteredModel, on_delete=models.CASCADE, related_name="versions")
    n = models.PositiveIntegerField(editable=False)
    kind = models.CharField(max_length=8, choices=Kind)
    base = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="derived")
    path = models.CharField(max_length=200, editable=False, help_text="Folder, relative to the data folder.")
    model_type = models.CharField(max_length=60, blank=True, help_text="Architecture, such as llama.")
    parameters = models.BigIntegerField(default=0, help_text="Number of weights.")
    quantization = models.JSONField(null=True, help_text="bits and group_size, or nothing for full precision.")
    context_length = models.PositiveIntegerField(default=0, help_text="Longest context in tokens; 0 if unknown.")
    bytes = models.BigIntegerField(default=0)
    files = models.JSONField(default=dict, help_text="File name to sha256.")
    license = models.CharField(max_length=120, blank=True)
    source = models.JSONField(default=dict, help_text="Where it came from, revision pinned.")
    metrics = models.JSONField(default=dict, help_text="Final figures, such as val_loss.")
    heads = models.JSONField(default=list, help_text="Heads beside the model's own: score makes it a reward model.")
    job_id = models.UUIDField(null=True, db_index=True, help_text="The job that made it.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = VisibleQuerySet["ModelVersion"].as_manager()

    class Meta:
        ordering = ["model__name", "-n"]
        constraints = [models.UniqueConstraint(fields=["model", "n"], name="one_version_per_number")]

    def __str__(self) -> str:
        return f"{self.model.name} v{self.n}"

    @property
    def folder(self) -> Path:
        """Absolute path of the version's folder."""
        return Path(settings.HOME) / self.path

    @property
    def is_trainable(self) -> bool:
        """Whether a training can start from it: a whole model, or an adapter whose base is known."""
        return self.kind != self.Kind.ADAPTER or self.base_id is not None

    @property
    def is_reward_model(self) -> bool:
        """Whether it scores answers."""
        return "score" in self.heads

    @property
    def whole(self) -> ModelVersion:
        """The whole model: this version, or the base that an adapter belongs on."""
        return self.base if self.kind == self.Kind.ADAPTER and self.base is not None else self


class Alias(models.Model):
    """A name that points at one version of a model, such as champion."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(RegisteredModel, on_delete=models.CASCADE, related_name="aliases")
    name = models.SlugField(max_length=40)
    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="aliases")
    moved_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "aliases"
        constraints = [models.UniqueConstraint(fields=["model", "name"], name="one_alias_per_name")]

    def __str__(self) -> str:
        return f"{self.name} → {self.version}"
