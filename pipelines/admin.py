"""Pipelines, their definitions and runs in the admin panel. States and results change only by the services."""

from __future__ import annotations

from django.contrib import admin

from mlxplatform.core.admin import LookOnly
from pipelines.models import Approval, Pipeline, PipelineRun, PipelineVersion, RunEvent, StepRun


@admin.register(Pipeline)
class PipelineAdmin(LookOnly):
    list_display = ("name", "template", "owner", "created_at", "deleted_at")
    list_filter = ("template", "owner")
    list_select_related = ("owner",)
    search_fields = ("name", "template")


@admin.register(PipelineVersion)
class PipelineVersionAdmin(LookOnly):
    list_display = ("pipeline", "n", "created_at")
    list_select_related = ("pipeline",)
    search_fields = ("pipeline__name",)


@admin.register(PipelineRun)
class PipelineRunAdmin(LookOnly):
    list_display = ("number", "version", "state", "message", "owner", "created_at", "ended_at")
    list_filter = ("state", "owner")
    list_select_related = ("version__pipeline", "owner")
    search_fields = ("=number", "version__pipeline__name", "message")


@admin.register(StepRun)
class StepRunAdmin(LookOnly):
    list_display = ("run", "place", "name", "kind", "state", "tries", "job", "why", "started_at", "ended_at")
    list_filter = ("state", "kind")
    list_select_related = ("run__version__pipeline", "job")
    search_fields = ("=run__number", "name", "message", "digest")


@admin.register(Approval)
class ApprovalAdmin(LookOnly):
    list_display = ("step", "approved", "user", "note", "at")
    list_filter = ("approved",)
    list_select_related = ("step__run__version__pipeline", "user")
    search_fields = ("=step__run__number", "step__name", "note")


@admin.register(RunEvent)
class RunEventAdmin(LookOnly):
    list_display = ("run", "step", "frm", "to", "message", "at")
    list_filter = ("to",)
    list_select_related = ("run__version__pipeline",)
    search_fields = ("=run__number", "step", "message")
