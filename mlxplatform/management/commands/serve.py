"""``python manage.py serve``: the dashboard and its worker, until Ctrl-C."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from mlxplatform import ports
from mlxplatform.assets import MANIFEST, VENDOR
from mlxplatform.core.env import env
from mlxplatform.core.errors import DomainError
from mlxplatform.core.models import OneTimeLink
from mlxplatform.launcher import Launcher


class Command(BaseCommand):
    help = "Start the dashboard and its worker."
    requires_system_checks = ["models"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=env().host, help="address to listen on (MLXP_HOST)")
        parser.add_argument("--port", type=int, default=env().port, help="port to listen on (MLXP_PORT)")

    def handle(self, *_: Any, **options: Any) -> None:
        os.umask(0o077)  # what web and worker write is for its owner only
        host, port = str(options["host"]), int(options["port"])
        try:
            listener = ports.take(host, port)
        except DomainError as error:
            raise CommandError(str(error)) from error
        migrate_if_needed()
        env().folder("static")
        shown = f"[{host}]" if ":" in host else host
        base = f"http://{shown}:{port}"
        self.say(f"Dashboard: {base}/")
        for line in notices(base):
            self.say(line)
        connection.close()
        launcher = Launcher(listener, self.say, {"MLXP_HOST": host, "MLXP_PORT": str(port)})
        sys.exit(launcher.run())

    def say(self, line: str) -> None:
        """Print a line now, also into a file."""
        self.stdout.write(line)
        self.stdout.flush()


def migrate_if_needed() -> bool:
    """Bring the tables up to date; True when there was something to do."""
    executor = MigrationExecutor(connection)
    if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return False
    call_command("migrate", interactive=False, verbosity=0)
    return True


def notices(base: str) -> list[str]:
    """What the person at the console should know at the start."""
    lines = []
    if not User.objects.exists():
        secret = OneTimeLink.issue(OneTimeLink.Purpose.SETUP)
        lines.append(f"Set it up here (the link works once, for 30 minutes): {base}/setup/{secret}/")
    if not (VENDOR / MANIFEST).exists():
        lines.append("The web assets are missing, so pages look bare. Fetch them: python -m mlxplatform.assets")
    return lines
