"""What a job brought forth: curves, samples and checkpoints."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.db import models
from django.utils import timezone

from training.models.jobs import Job

#: Sizes, in steps, of the buckets that charts of long runs are drawn from.
ROLLUP_SIZES = (16, 256, 4096)


class Metric(models.Model):
    """One curve of a job. Names and units: ``docs/journal.md``."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="metrics")
    name = models.CharField(max_length=60)
    last_step = models.PositiveIntegerField(default=0)
    last_value = models.FloatField(null=True)
    best_step = models.PositiveIntegerField(null=True, help_text="Step of the lowest value.")
    best_value = models.FloatField(null=True, help_text="Lowest value; the greatest where more is better.")

    class Meta:
        ordering = ["job", "name"]
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="one_metric_per_name")]

    def __str__(self) -> str:
        return self.name


class MetricPoint(models.Model):
    """One value; nothing stands for NaN and infinity."""

    id = models.BigAutoField(primary_key=True)
    metric = models.ForeignKey(Metric, on_delete=models.CASCADE, related_name="points", db_index=False)
    step = models.PositiveIntegerField()
    value = models.FloatField(null=True)
    t = models.FloatField(help_text="UTC seconds since the epoch.")

    class Meta:
        ordering = ["metric", "step"]
        constraints = [models.UniqueConstraint(fields=["metric", "step"], name="one_point_per_step")]

    def __str__(self) -> str:
        return f"{self.step}: {self.value}"


class MetricRollup(models.Model):
    """Least, greatest and last value of ``size`` steps, so that a spike survives zooming out."""

    id = models.BigAutoField(primary_key=True)
    metric = models.ForeignKey(Metric, on_delete=models.CASCADE, related_name="rollups", db_index=False)
    size = models.PositiveIntegerField()
    bucket = models.PositiveIntegerField(help_text="step // size")
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    total = models.FloatField(default=0.0, help_text="Sum of the finite values.")
    n = models.PositiveIntegerField(default=0, help_text="Number of finite values.")
    last = models.FloatField(null=True)
    last_step = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["metric", "size", "bucket"]
        constraints = [models.UniqueConstraint(fields=["metric", "size", "bucket"], name="one_rollup_per_bucket")]

    def __str__(self) -> str:
        return f"{self.bucket * self.size}: {self.low} to {self.high}"


class Sample(models.Model):
    """What the model answered to a fixed prompt; step 0 is before training."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="samples")
    step = models.PositiveIntegerField()
    index = models.PositiveSmallIntegerField()
    prompt = models.TextField()
    text = models.TextField(blank=True)
    reference = models.TextField(blank=True, help_text="The answer that stands in the data.")
    tokens = models.PositiveIntegerField(default=0)
    seconds = models.FloatField(default=0.0)

    class Meta:
        ordering = ["job", "index", "step"]
        constraints = [models.UniqueConstraint(fields=["job", "step", "index"], name="one_sample_per_prompt")]

    def __str__(self) -> str:
        return f"step {self.step}, prompt {self.index}"


class Checkpoint(models.Model):
    """A complete folder from which the job can go on; removed ones keep their row."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="checkpoints")
    attempt = models.PositiveIntegerField()
    step = models.PositiveIntegerField()
    path = models.CharField(max_length=120, help_text="Relative to the job's folder.")
    bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, help_text="Of its manifest, which holds the hash of every file.")
    val_loss = models.FloatField(null=True)
    is_best = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    removed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["job", "-step"]
        constraints = [models.UniqueConstraint(fields=["job", "step"], name="one_checkpoint_per_step")]

    def __str__(self) -> str:
        return f"step {self.step}"

    @property
    def folder(self) -> Path:
        """Absolute path of the checkpoint."""
        return self.job.run_dir.root / self.path
