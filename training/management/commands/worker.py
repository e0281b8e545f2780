"""``python manage.py worker``: run jobs in this process, until Ctrl-C."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from training.worker import Worker


class Command(BaseCommand):
    help = "Run jobs. 'serve' starts this by itself."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--lifeline", type=int, help="descriptor whose end means that the launcher is gone")

    def handle(self, *_: Any, **options: Any) -> None:
        sys.exit(Worker().run(options["lifeline"]))
