"""Jobs, their attempts and events, and the slots they run in."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import F
from django.utils import timezone

from mlxplatform.core.access import VisibleQuerySet
from mlxplatform.core.errors import Conflict
from training.engine.catalog.kinds import KINDS
from training.engine.run.rundir import AttemptDir, RunDir
from training.states import ACTIVE, ATTEMPT_LIFE, JOB_LIFE, RESUMABLE, AttemptState, JobState


class JobQuerySet(VisibleQuerySet["Job"]):
    """Jobs as pages, API and worker ask for them."""

    def present(self) -> JobQuerySet:
        """Not in the trash."""
        return self.filter(deleted_at=None)

    def waiting(self) -> JobQuerySet:
        """Queued, in the order in which they will start."""
        return self.present().filter(state=JobState.QUEUED).order_by("-priority", "queued_at", "number")

    def active(self) -> JobQuerySet:
        """Holding a slot."""
        return self.filter(state__in=ACTIVE)


class Job(models.Model):
    """One piece of work for the engine. The row is the truth; messages about it are reminders.

    ``stop_requested_at`` and ``pause_requested_at`` are what the web side writes to end a running
    job; the worker sees them and moves the state. ``fence`` is raised at every claim and takeover:
    whoever writes with an older one has lost the job.
    """

    LIFE = JOB_LIFE

    class Kind(StrEnum):
        """Kinds that the platform itself asks for by name; ``training.engine.catalog.kinds`` has all."""

        TRAIN = "train"
        IMPORT_MODEL = "import_model"
        IMPORT_DATASET = "import_dataset"
        MAKE_STUDENT = "make_student"
        GENERATE_DATASET = "generate_dataset"
        EVALUATE = "evaluate"

    class Resource(models.TextChoices):
        DEVICE = "device", "Device"
        CPU = "cpu", "CPU"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.PositiveIntegerField(unique=True, editable=False)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=24, default="train", help_text="A row of the engine's catalog of kinds.")
    resource = models.CharField(max_length=8, choices=Resource, default=Resource.DEVICE)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="jobs")
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children")
    priority = models.SmallIntegerField(default=0, help_text="Higher starts first.")
    notes = models.TextField(blank=True)

    settings = models.JSONField(default=dict, help_text="What was asked for, defaults filled in.")
    model_version = models.ForeignKey(
        "registry.ModelVersion", null=True, on_delete=models.PROTECT, related_name="+", help_text="The base model."
    )
    dataset_version = models.ForeignKey(
        "training.DatasetVersion", null=True, on_delete=models.PROTECT, related_name="jobs"
    )
    idempotency_key = models.CharField(max_length=120, blank=True, editable=False)

    state = models.CharField(max_length=12, choices=JobState, default=JobState.QUEUED, editable=False, db_index=True)
    reason = models.CharField(max_length=60, blank=True, editable=False, help_text="Code of why it ended so.")
    message = models.TextField(blank=True, editable=False, help_text="The reason in a sentence.")
    hint = models.TextField(blank=True, editable=False, help_text="What to do about it.")
    stop_requested_at = models.DateTimeField(null=True, editable=False)
    pause_requested_at = models.DateTimeField(null=True, editable=False)
    kill_requested_at = models.DateTimeField(null=True, editable=False, help_text="Stop without saving.")
    fence = models.PositiveIntegerField(default=0, editable=False)
    last_seq = models.PositiveBigIntegerField(default=0, editable=False)
    pruned_to = models.PositiveBigIntegerField(default=0, editable=False)

    phase = models.CharField(max_length=40, blank=True, editable=False)
    progress = models.FloatField(default=0.0, editable=False, help_text="Share that is done, 0 to 1.")
    step = models.PositiveIntegerField(default=0, editable=False)
    total_steps = models.PositiveIntegerField(default=0, editable=False)
    result = models.JSONField(default=dict, editable=False, help_text="What the engine said when it finished.")

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    queued_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)
    deleted_at = models.DateTimeField(null=True, editable=False)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        indexes = [models.Index(fields=["state", "resource", "-priority", "queued_at"], name="queue_order")]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "idempotency_key"],
                condition=~models.Q(idempotency_key=""),
                name="one_job_per_idempotency_key",
            )
        ]

    def __str__(self) -> str:
        return f"#{self.number} {self.name}"

    def record_move(self, frm: str, to: str) -> None:
        """Append the state event; called by move() inside its transaction."""
        payload = {"state": to, "from": frm, "reason": self.reason, "message": self.message, "hint": self.hint}
        JobEvent.objects.append(self.pk, [("state", payload)])

    @property
    def run_dir(self) -> RunDir:
        """The job's folder on disk."""
        return RunDir(Path(settings.HOME) / "runs" / str(self.id))

    @property
    def attempt(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts.order_by("-n").first()

    @property
    def kind_label(self) -> str:
        """The kind in words; its name where the catalog does not know it any more."""
        return KINDS[self.kind].label if self.kind in KINDS else self.kind

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def is_resumable(self) -> bool:
        return self.state in RESUMABLE

    @property
    def stop_wanted(self) -> bool:
        """A person asked for an end: stop, pause or kill."""
        return any((self.stop_requested_at, self.pause_requested_at, self.kill_requested_at))


class Attempt(models.Model):
    """One process of a job. Final states are never reopened."""

    LIFE = ATTEMPT_LIFE

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="attempts")
    n = models.PositiveIntegerField()
    fence = models.PositiveIntegerField()
    state = models.CharField(max_length=12, choices=AttemptState, default=AttemptState.STARTING, editable=False)
    reason = models.CharField(max_length=60, blank=True)
    host = models.CharField(max_length=120, blank=True)
    boot_id = models.CharField(max_length=64, blank=True)
    pid = models.PositiveIntegerField(null=True)
    pgid = models.PositiveIntegerField(null=True)
    process_start = models.FloatField(null=True, help_text="Start time of the process as the kernel tells it.")
    backend = models.JSONField(default=dict, help_text="Device, BLAS and versions it ran on.")
    first_step = models.PositiveIntegerField(default=0, help_text="Step it went on from.")
    step = models.PositiveIntegerField(default=0)
    journal_offset = models.PositiveBigIntegerField(
        default=0, help_text="Bytes of the journal that are in the database."
    )
    heartbeat_at = models.DateTimeField(null=True)
    progress_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)
    exit_signal = models.IntegerField(null=True)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["job", "-n"]
        constraints = [models.UniqueConstraint(fields=["job", "n"], name="one_attempt_per_number")]

    def __str__(self) -> str:
        return f"{self.job} attempt {self.n}"

    def record_move(self, _frm: str, to: str) -> None:
        """Append the event of an attempt's move; called by move() inside its transaction."""
        payload = {"attempt": self.n, "attempt_state": to, "attempt_reason": self.reason, "first_step": self.first_step}
        JobEvent.objects.append(self.job_id, [("state", payload)])

    @property
    def folder(self) -> AttemptDir:
        """The attempt's folder on disk."""
        return self.job.run_dir.attempt(self.n)


class JobInput(models.Model):
    """A further model that a job works with, such as a teacher. Its base model stands in the job's own row."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="inputs")
    role = models.CharField(max_length=24, help_text="teacher, reward_model, …")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["job", "role"]
        constraints = [models.UniqueConstraint(fields=["job", "role"], name="one_input_per_role")]

    def __str__(self) -> str:
        return f"{self.role}: {self.version}"


class JobEventManager(models.Manager["JobEvent"]):
    """Hands out ``seq``: dense for each job, from the job's row, in the writing transaction."""

    def append(self, job_id: Any, events: Iterable[tuple[str, dict[str, Any]]], *, fence: int | None = None) -> int:
        """Write ``(kind, payload)`` pairs and return the last ``seq``. Raises Conflict under an old fence."""
        rows = list(events)
        with transaction.atomic():
            jobs = Job.objects.filter(pk=job_id)
            if fence is not None:
                jobs = jobs.filter(fence=fence)
            if jobs.update(last_seq=F("last_seq") + len(rows)) != 1:
                raise Conflict("state.fenced", "Another worker has taken this job over.", "Nothing was written.")
            last: int = Job.objects.values_list("last_seq", flat=True).get(pk=job_id)
            first = last - len(rows) + 1
            self.bulk_create(
                JobEvent(job_id=job_id, seq=first + i, kind=kind, payload=payload)
                for i, (kind, payload) in enumerate(rows)
            )
        return last


class JobEvent(models.Model):
    """What happened to a job, in order. Live pages and the event stream read it after a ``seq``."""

    KINDS = ("metric", "log", "state", "sample", "truncate")

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveBigIntegerField()
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=12)
    payload = models.JSONField(default=dict)

    objects = JobEventManager()

    class Meta:
        ordering = ["job", "seq"]
        constraints = [models.UniqueConstraint(fields=["job", "seq"], name="dense_seq")]

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"

    def frame(self) -> dict[str, Any]:
        """The event as it goes over the socket and the event stream."""
        return {**self.payload, "seq": self.seq, "job": str(self.job_id), "t": self.kind, "at": self.at.timestamp()}


class DeviceSlot(models.Model):
    """One place to run in, held by at most one job under its fence."""

    name = models.CharField(primary_key=True, max_length=20, help_text="device:0, cpu:1, …")
    resource = models.CharField(max_length=8, choices=Job.Resource)
    job = models.OneToOneField(Job, null=True, on_delete=models.SET_NULL, related_name="slot")
    fence = models.PositiveIntegerField(default=0)
    taken_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
