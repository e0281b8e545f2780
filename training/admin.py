"""Jobs, what came of them, and data sets in the admin panel."""

from __future__ import annotations

from django.contrib import admin

from mlxplatform.core.admin import LookOnly
from training.models import (
    Attempt,
    Checkpoint,
    Dataset,
    DatasetVersion,
    DeviceSlot,
    Evaluation,
    Job,
    JobEvent,
    JobInput,
    Metric,
    MetricPoint,
    MetricRollup,
    OptimizerPreset,
    Sample,
)


@admin.register(Job)
class JobAdmin(LookOnly):
    editable = ("notes", "priority")
    list_display = ("number", "name", "kind", "state", "reason", "owner", "priority", "created_at", "ended_at")
    list_filter = ("state", "kind", "resource", "owner")
    list_select_related = ("owner",)
    search_fields = ("=number", "name", "notes", "reason")


@admin.register(Attempt)
class AttemptAdmin(LookOnly):
    list_display = ("job", "n", "state", "reason", "host", "pid", "step", "exit_code", "started_at", "ended_at")
    list_filter = ("state", "reason", "host")
    list_select_related = ("job",)
    search_fields = ("=job__number", "job__name", "reason")


@admin.register(JobEvent)
class JobEventAdmin(LookOnly):
    list_display = ("job", "seq", "kind", "at")
    list_filter = ("kind",)
    list_select_related = ("job",)
    search_fields = ("=job__number",)


@admin.register(DeviceSlot)
class DeviceSlotAdmin(LookOnly):
    list_display = ("name", "resource", "job", "fence", "taken_at")
    list_filter = ("resource",)
    list_select_related = ("job",)
    search_fields = ("name",)


@admin.register(Metric)
class MetricAdmin(LookOnly):
    list_display = ("job", "name", "last_step", "last_value", "best_step", "best_value")
    list_filter = ("name",)
    list_select_related = ("job",)
    search_fields = ("=job__number", "name")


@admin.register(MetricPoint)
class MetricPointAdmin(LookOnly):
    list_display = ("metric", "step", "value", "t")
    list_select_related = ("metric",)
    raw_id_fields = ("metric",)
    search_fields = ("=metric__job__number", "=metric__name")


@admin.register(MetricRollup)
class MetricRollupAdmin(LookOnly):
    list_display = ("metric", "size", "bucket", "low", "high", "last", "n")
    list_filter = ("size",)
    list_select_related = ("metric",)
    search_fields = ("=metric__job__number", "=metric__name")


@admin.register(Sample)
class SampleAdmin(LookOnly):
    list_display = ("job", "step", "index", "tokens", "seconds")
    list_select_related = ("job",)
    search_fields = ("=job__number", "prompt", "text")


@admin.register(Checkpoint)
class CheckpointAdmin(LookOnly):
    list_display = ("job", "step", "bytes", "val_loss", "is_best", "created_at", "removed_at")
    list_filter = ("is_best",)
    list_select_related = ("job",)
    search_fields = ("=job__number", "path")


@admin.register(Dataset)
class DatasetAdmin(LookOnly):
    editable = ("name",)
    list_display = ("name", "owner", "created_at", "deleted_at")
    list_filter = ("owner",)
    list_select_related = ("owner",)
    search_fields = ("name",)


@admin.register(DatasetVersion)
class DatasetVersionAdmin(LookOnly):
    list_display = ("dataset", "n", "data_format", "rows_train", "rows_valid", "rows_test", "bytes", "created_at")
    list_filter = ("data_format",)
    list_select_related = ("dataset",)
    search_fields = ("dataset__name", "sha256")


@admin.register(Evaluation)
class EvaluationAdmin(LookOnly):
    list_display = ("job", "model_version", "checkpoint", "dataset_version", "answered", "created_at")
    list_select_related = ("job", "model_version__model", "checkpoint", "dataset_version__dataset")
    search_fields = ("=job__number", "model_version__model__name", "dataset_version__dataset__name")


@admin.register(JobInput)
class JobInputAdmin(LookOnly):
    list_display = ("job", "role", "version")
    list_filter = ("role",)
    list_select_related = ("job", "version__model")
    search_fields = ("=job__number", "version__model__name")


@admin.register(OptimizerPreset)
class OptimizerPresetAdmin(LookOnly):
    list_display = ("name", "owner", "created_at", "changed_at")
    list_filter = ("owner",)
    list_select_related = ("owner",)
    search_fields = ("name",)
