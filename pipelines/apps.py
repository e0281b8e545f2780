"""Django app of the room 'pipelines'."""

from __future__ import annotations

from django.apps import AppConfig


class PipelinesConfig(AppConfig):
    name = "pipelines"
    verbose_name = "Pipelines"

    def ready(self) -> None:
        """Connect the receivers, which need the tables."""
        from pipelines import receivers

        receivers.connect()
