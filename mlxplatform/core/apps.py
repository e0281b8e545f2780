"""Django app of the cellar."""

from __future__ import annotations

from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "mlxplatform.core"
    label = "core"
    verbose_name = "Access"
