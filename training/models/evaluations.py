"""What evaluations found: figures of a model version or a checkpoint on a data set."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models
from django.utils import timezone

from mlxplatform.core.access import VisibleQuerySet
from training.models.jobs import Job


class EvaluationQuerySet(VisibleQuerySet["Evaluation"]):
    """Evaluations as pages, API and gates ask for them."""

    def alike(self, other: Evaluation) -> EvaluationQuerySet:
        """Those whose figures may be compared with those of ``other``: the same rows, asked in the same way."""
        return self.filter(dataset_version=other.dataset_version_id, settings_hash=other.settings_hash)


class Evaluation(models.Model):
    """Figures by name; ``training.measures`` says what they are. Of a version, or of a checkpoint that is none yet."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.OneToOneField(Job, on_delete=models.CASCADE, related_name="evaluation")
    model_version = models.ForeignKey(
        "registry.ModelVersion", null=True, on_delete=models.CASCADE, related_name="evaluations"
    )
    checkpoint = models.ForeignKey(
        "training.Checkpoint", null=True, on_delete=models.CASCADE, related_name="evaluations"
    )
    dataset_version = models.ForeignKey("training.DatasetVersion", on_delete=models.CASCADE, related_name="evaluations")
    settings = models.JSONField(default=dict, help_text="What was asked for, defaults filled in.")
    settings_hash = models.CharField(
        max_length=64, db_index=True, help_text="Of settings, reward model and baseline: equal ones may be compared."
    )
    values = models.JSONField(default=dict, help_text="Figure by name.")
    answered = models.PositiveIntegerField(default=0, help_text="Rows that the model has answered.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = EvaluationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(model_version=None) ^ models.Q(checkpoint=None), name="of_a_version_or_a_checkpoint"
            )
        ]

    def __str__(self) -> str:
        return f"{self.subject} on {self.dataset_version}"

    @property
    def subject(self) -> Any:
        """The version or the checkpoint that was looked at."""
        return self.model_version if self.model_version_id else f"#{self.job.parent.number} {self.checkpoint}"  # type: ignore[union-attr]

    @property
    def split(self) -> str:
        """The part of the data set."""
        return str(self.settings.get("split", ""))
