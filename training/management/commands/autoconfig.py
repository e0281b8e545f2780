"""``python manage.py autoconfig MODEL DATA``: settings for a training, why, and whether it fits."""

from __future__ import annotations

import json
from typing import Any, get_args

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from mlxplatform.core.errors import DomainError
from registry.models import RegisteredModel
from training import services
from training.engine.catalog.method_settings import Other
from training.models import Dataset
from training.plan import shown

ROLES: tuple[str, ...] = get_args(Other)


class Command(BaseCommand):
    help = "Propose all settings of a training, with reasons; --json gives what POST /api/v1/jobs takes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", help="name of a registered model; its newest version is taken")
        parser.add_argument("data", help="name of a data set; its newest version is taken")
        parser.add_argument("--method", default=None, help="without one the data's format decides")
        for role in ROLES:
            parser.add_argument(f"--{role.replace('_', '-')}", help="name of a registered model that helps to train")
        parser.add_argument("--measure", action="store_true", help="compute one update for real")
        parser.add_argument("--json", action="store_true", help="the whole answer as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        user = User.objects.filter(is_superuser=True).order_by("pk").first()
        if user is None:
            raise CommandError("There is no administrator yet. Start the dashboard once.")
        model = _newest(RegisteredModel, options["model"])
        data = _newest(Dataset, options["data"])
        others = {role: _newest(RegisteredModel, name).pk for role in ROLES if (name := options[role])}
        try:
            made = services.configure(
                user, model.pk, data.pk, options["method"], others=others, measure=options["measure"]
            )
        except DomainError as error:
            raise CommandError("\n".join(f"{p.message} {p.hint}".strip() for p in error.problems)) from None
        if options["json"]:
            self.stdout.write(json.dumps({**made.as_dict(), "dataset_version_id": str(data.pk)}, indent=1))
            return
        for reason in made.proposal.reasons:
            self.stdout.write(f"{reason.path} = {shown(reason.value)}: {reason.why}")
        for step in made.steps:
            self.stdout.write(f"To fit: {step}")
        for text in made.warnings:
            self.stdout.write(f"Note: {text}")
        if made.memory is not None:
            needed, free = made.memory["total"] / (1 << 30), made.memory["limit"] / (1 << 30)
            words = made.memory["calibration"]["words"]
            verdict = "fits" if made.fits else "does not fit"
            self.stdout.write(f"It {verdict}: about {needed:.2f} GiB of {free:.2f}. {words}")


def _newest(table: Any, name: str) -> Any:
    """The newest version of the newest thing of that name."""
    found = table.objects.filter(name=name, deleted_at=None).order_by("-created_at").first()
    if found is None or found.newest is None:
        known = ", ".join(table.objects.filter(deleted_at=None).values_list("name", flat=True)[:20]) or "none"
        raise CommandError(f"There is no {table._meta.verbose_name} '{name[:60]}'. Known are: {known}.")
    return found.newest
