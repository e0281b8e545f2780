"""The roof as a Django app: it brings template tags, commands and static files, no tables."""

from __future__ import annotations

from django.apps import AppConfig


class RoofConfig(AppConfig):
    name = "mlxplatform"
    verbose_name = "MLX Platform"
