"""Pipelines and their definitions, runs and their steps, what people decided, and what happened in order."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from mlxplatform.core.access import VisibleQuerySet
from pipelines.definition import Definition
from pipelines.states import RUN_ENDED, RUN_LIFE, STEP_ENDED, STEP_LIFE, RunState, StepState


class Pipeline(models.Model):
    """A pipeline with a name people know."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80)
    template = models.CharField(max_length=40, blank=True, help_text="The template it was made from.")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = VisibleQuerySet["Pipeline"].as_manager()

    class Meta:
        ordering = ["name", "-created_at"]

    def __str__(self) -> str:
        return self.name

    @property
    def newest(self) -> PipelineVersion:
        """The definition in force."""
        return self.versions.order_by("-n")[0]


class PipelineVersion(models.Model):
    """One definition of a pipeline; it never changes."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="versions")
    n = models.PositiveIntegerField(editable=False)
    body = models.JSONField(help_text="The definition as plain values.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["pipeline", "-n"]
        constraints = [models.UniqueConstraint(fields=["pipeline", "n"], name="one_definition_per_number")]

    def __str__(self) -> str:
        return f"{self.pipeline} v{self.n}"

    @property
    def definition(self) -> Definition:
        return Definition.model_validate(self.body)


class PipelineRun(models.Model):
    """One run of a definition. The row is the truth; messages about it are reminders."""

    LIFE = RUN_LIFE

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.PositiveIntegerField(unique=True, editable=False)
    version = models.ForeignKey(PipelineVersion, on_delete=models.PROTECT, related_name="runs")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    inputs = models.JSONField(default=dict, help_text="What was chosen: ids of versions, and numbers.")
    idempotency_key = models.CharField(max_length=120, blank=True, editable=False)
    state = models.CharField(max_length=12, choices=RunState, default=RunState.RUNNING, editable=False, db_index=True)
    message = models.TextField(blank=True, editable=False)
    cancel_requested_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)

    objects = VisibleQuerySet["PipelineRun"].as_manager()

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "idempotency_key"],
                condition=~models.Q(idempotency_key=""),
                name="one_run_per_idempotency_key",
            )
        ]

    def __str__(self) -> str:
        return f"#{self.number} {self.version.pipeline}"

    def record_move(self, frm: str, to: str) -> None:
        """Write down the move; called by move() inside its transaction."""
        RunEvent.objects.create(run=self, frm=frm, to=to, message=self.message)

    @property
    def has_ended(self) -> bool:
        return self.state in RUN_ENDED

    @property
    def progress(self) -> float:
        """Share that is done, 0 to 1; steps that run count by their jobs' progress.

        Of a run that ended badly the share of steps that succeeded: what was not reached is not done.
        """
        steps = list(self.steps.all())
        if self.state in (RunState.FAILED, RunState.CANCELLED):
            done: float = sum(step.state == StepState.SUCCEEDED for step in steps)
        else:
            done = sum(1.0 if step.has_ended else step.progress for step in steps)
        return done / len(steps) if steps else 0.0


class StepRun(models.Model):
    """One step of a run."""

    LIFE = STEP_LIFE

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    run = models.ForeignKey(PipelineRun, on_delete=models.CASCADE, related_name="steps")
    place = models.PositiveSmallIntegerField(help_text="Its place in the definition, from 0.")
    name = models.CharField(max_length=40)
    kind = models.CharField(max_length=40, help_text="A row of the catalog of step kinds.")
    state = models.CharField(max_length=12, choices=StepState, default=StepState.WAITING, editable=False)
    tries = models.PositiveSmallIntegerField(default=0, help_text="How often it was begun anew.")
    job = models.ForeignKey("training.Job", null=True, on_delete=models.SET_NULL, related_name="+")
    reused = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="+")
    identity = models.JSONField(default=dict, help_text="All that decides the result: kind, settings, inputs, engine.")
    digest = models.CharField(max_length=64, blank=True, db_index=True, help_text="sha256 of the identity.")
    why = models.TextField(blank=True, help_text="Why it ran, or why an earlier result stands for it.")
    message = models.TextField(blank=True)
    outputs = models.JSONField(default=dict, help_text="Ids of versions by output, and figures under metrics.")
    details = models.JSONField(default=dict, help_text="What pages show of it.")
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["run", "place"]
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="one_step_per_name")]

    def __str__(self) -> str:
        return f"{self.run} · {self.name}"

    def record_move(self, frm: str, to: str) -> None:
        """Write down the move; called by move() inside its transaction."""
        RunEvent.objects.create(run_id=self.run_id, step=self.name, frm=frm, to=to, message=self.message)

    @property
    def has_ended(self) -> bool:
        return self.state in STEP_ENDED

    @property
    def progress(self) -> float:
        """Share of a running step's job that is done, 0 to 1."""
        return self.job.progress if self.job is not None else 0.0


class Approval(models.Model):
    """What a person decided at a step."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    step = models.ForeignKey(StepRun, on_delete=models.CASCADE, related_name="approvals")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    approved = models.BooleanField()
    note = models.TextField(blank=True)
    digest = models.CharField(max_length=64, help_text="Of what the person saw.")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.step}: {'yes' if self.approved else 'no'}"


class RunEvent(models.Model):
    """What happened to a run, in order."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(PipelineRun, on_delete=models.CASCADE, related_name="events")
    step = models.CharField(max_length=40, blank=True, help_text="Empty: the run itself.")
    frm = models.CharField(max_length=12, blank=True)
    to = models.CharField(max_length=12)
    message = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.step or 'run'}: {self.to}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the API."""
        return {"at": self.at, "step": self.step, "from": self.frm, "to": self.to, "message": self.message}
