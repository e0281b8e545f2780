"""Django app of the room 'training'."""

from __future__ import annotations

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"
    verbose_name = "Training"

    def ready(self) -> None:
        """Connect the receivers, which need the tables."""
        from training import receivers

        receivers.connect()
