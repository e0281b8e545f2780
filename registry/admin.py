"""Registered models in the admin panel."""

from __future__ import annotations

from django.contrib import admin

from mlxplatform.core.admin import LookOnly
from registry.models import Alias, ModelVersion, RegisteredModel


@admin.register(RegisteredModel)
class RegisteredModelAdmin(LookOnly):
    editable = ("name", "description")
    list_display = ("name", "owner", "created_at", "deleted_at")
    list_filter = ("owner",)
    list_select_related = ("owner",)
    search_fields = ("name", "description")


@admin.register(ModelVersion)
class ModelVersionAdmin(LookOnly):
    list_display = ("model", "n", "kind", "model_type", "parameters", "bytes", "heads", "license", "created_at")
    list_filter = ("kind", "model_type")
    list_select_related = ("model",)
    search_fields = ("model__name", "license", "path")


@admin.register(Alias)
class AliasAdmin(LookOnly):
    list_display = ("name", "model", "version", "moved_at")
    list_select_related = ("model", "version__model")
    search_fields = ("name", "model__name")
