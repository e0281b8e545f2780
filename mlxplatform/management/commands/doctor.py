"""``python manage.py doctor``: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from mlxplatform.doctor import Finding, examine

MARKS = {"ok": "ok    ", "note": "note  ", "broken": "BROKEN"}


class Command(BaseCommand):
    help = "Say what is wrong with this installation and how to mend it. Status 1 when something is broken."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--port", type=int, help="the port to look at (MLXP_PORT)")

    def handle(self, *_: Any, **options: Any) -> None:
        findings = examine(options["port"])
        if options["json"]:
            self.stdout.write(json.dumps([finding.as_dict() for finding in findings], indent=1))
        else:
            for finding in findings:
                self.stdout.write(line(finding))
        if any(finding.level == "broken" for finding in findings):
            sys.exit(1)


def line(finding: Finding) -> str:
    """A finding for people: what is wrong, and below it what to do."""
    first = f"{MARKS[finding.level]}  {finding.check:<9} {finding.message}"
    return f"{first}\n        {'':<9} → {finding.hint}" if finding.hint else first
