"""Settings of an optimizer under a name, to be used again."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

from mlxplatform.core.access import VisibleQuerySet


class OptimizerPreset(models.Model):
    """Optimizer, schedule, learning rate and parameter groups together. Jobs copy it: a later change is not theirs."""

    KEYS = ("optimizer", "lr_schedule", "learning_rate", "parameter_groups")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    settings = models.JSONField(default=dict, help_text="optimizer, lr_schedule, learning_rate, parameter_groups.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    changed_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = VisibleQuerySet["OptimizerPreset"].as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
