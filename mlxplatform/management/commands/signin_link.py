"""``python manage.py signin_link NAME``: a one-time sign-in link, for whoever forgot the password."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from mlxplatform import services
from mlxplatform.core.env import env
from mlxplatform.core.models import OneTimeLink


class Command(BaseCommand):
    """Print a link that signs one person in once, within 30 minutes."""

    help = "Print a one-time sign-in link for a user (an admin if no name is given)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", default="", help="User name; the first admin if left out.")

    def handle(self, *_args: Any, **options: Any) -> None:
        name = options["name"]
        people = User.objects.filter(is_active=True)
        user = people.filter(username=name).first() if name else services.admins().order_by("pk").first()
        if user is None:
            known = (
                ", ".join(people.values_list("username", flat=True)[:20]) or "nobody yet; run serve for a setup link"
            )
            raise CommandError(f"There is no active user '{name}'. Known are: {known}.")
        path = reverse("sign_in", args=[OneTimeLink.issue(OneTimeLink.Purpose.SIGN_IN, user)])
        scheme = "https" if env().https else "http"
        self.stdout.write(f"{scheme}://{env().host}:{env().port}{path}")
