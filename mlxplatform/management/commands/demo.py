"""``python manage.py demo``: the dashboard, a first administrator, and a training to watch."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from mlxplatform import show
from mlxplatform.core.access import Role, make_user
from mlxplatform.core.env import ROOT, env
from mlxplatform.core.models import OneTimeLink
from mlxplatform.management.commands.serve import migrate_if_needed
from training import demo
from training.models import Job
from training.states import JobState

ADMIN = "admin"
PATIENCE_S = 60  # seconds until the dashboard must answer


class Command(BaseCommand):
    help = "Start the dashboard and run the demo training; go on serving afterwards."
    requires_system_checks = ["models"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--exit", action="store_true", help="end after the training")
        parser.add_argument("--all-data", action="store_true", help="also make the preference, KTO and prompt sets")
        parser.add_argument("--host", default=env().host, help="address to listen on (MLXP_HOST)")
        parser.add_argument("--port", type=int, default=env().port, help="port to listen on (MLXP_PORT)")

    def handle(self, *_: Any, **options: Any) -> None:
        migrate_if_needed()
        user = User.objects.filter(is_superuser=True).order_by("pk").first()
        user = user or make_user(ADMIN, Role.ADMIN, superuser=True)
        self.log = env().folder("logs") / "serve.log"
        self.server = self._serve(str(options["host"]), int(options["port"]))
        # Only raises: the end is in good order below, outside of whatever the signal interrupted.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            base = f"http://{options['host']}:{options['port']}"
            link = reverse("sign_in", args=[OneTimeLink.issue(OneTimeLink.Purpose.SIGN_IN, user)])
            self._say(f"\nDashboard: {base}/", f"Sign in once, within 30 minutes: {base}{link}\n")
            job = self._train(user, all_data=bool(options["all_data"]))
            self._report(job, base)
            if options["exit"]:
                return
            self._say(f"\nThe dashboard goes on at {base}/ (Ctrl-C ends it; 'make serve' starts it again).")
            self.server.wait()
        except KeyboardInterrupt:
            self._say("\nSaving what runs; it goes on at the next start.")
        finally:
            self._close()

    def _serve(self, host: str, port: int) -> subprocess.Popen[bytes]:
        with open(self.log, "ab") as log:
            begin = log.tell()
            server = subprocess.Popen(
                [sys.executable, "manage.py", "serve", "--host", host, "--port", str(port)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        end = time.monotonic() + PATIENCE_S
        while b"Dashboard:" not in (said := _after(self.log, begin)):
            if server.poll() is not None or time.monotonic() > end:
                server.kill()
                raise CommandError(said.decode(errors="replace").strip()[-2000:] or "The dashboard did not start.")
            time.sleep(0.1)
        return server

    def _train(self, user: User, *, all_data: bool) -> Job:
        line = show.Line()
        self._say("Getting model and data:")
        prepared = demo.prepare(user)
        sets = demo.prepare_sets(user) if all_data else []
        for job in (prepared.model_job, prepared.data_job, *sets):
            if job is not None:
                self._expect(show.follow(job, line, self._alive))
        job = demo.start(user)
        rows = job.dataset_version.rows_train if job.dataset_version else 0
        self._say(f"\nTraining #{job.number}: QLoRA of {job.model_version} on {rows} questions about Python.")
        return self._expect(show.follow(job, line, self._alive))

    def _expect(self, job: Job) -> Job:
        if job.state != JobState.SUCCEEDED:
            raise CommandError(f"{job} ended {job.state}. {job.message} {job.hint} Log: {self.log}")
        return job

    def _report(self, job: Job, base: str) -> None:
        self._say("\nThree questions the model never saw:")
        show.samples(job)
        first, last = job.result.get("first_test_loss"), job.result.get("test_loss")
        self._say("")
        if first and last:
            change = 100 * (last - first) / first
            self._say(f"Held-out loss: {first:.4f} before, {last:.4f} after ({change:+.0f} %), in nats per token.")
        folder = Path(job.run_dir.root) / str(job.result.get("checkpoint", ""))
        self._say(f"Adapter: {folder}", f"Job page: {base}{reverse('job', args=[job.pk])}")

    def _alive(self) -> None:
        if self.server.poll() is not None:
            raise CommandError(f"The dashboard ended; its log is {self.log}.")

    def _close(self) -> None:
        """End the dashboard in good order; a second signal does not interrupt that."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if self.server.poll() is None:
            self.server.terminate()
            self.server.wait()

    def _say(self, *lines: str) -> None:
        for line in lines:
            self.stdout.write(line)
        self.stdout.flush()


def _after(path: Path, offset: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read()
