"""The lives of a pipeline's run and of its steps, as data. Who may make which move: ``docs/pipelines.md``."""

from __future__ import annotations

from django.db import models

from mlxplatform.core.lifecycle import Lifecycle


class RunState(models.TextChoices):
    """Where a run stands."""

    RUNNING = "running"
    PAUSED = "paused"  # by a person: nothing new begins
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(models.TextChoices):
    """Where a step of a run stands."""

    WAITING = "waiting"  # for the steps before it
    APPROVAL = "approval"  # for a person
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"  # cannot be reached any more
    CANCELLED = "cancelled"


R, S = RunState, StepState

RUN_LIFE = Lifecycle(
    RunState,
    {
        R.RUNNING: {R.PAUSED, R.SUCCEEDED, R.FAILED, R.CANCELLED},
        R.PAUSED: {R.RUNNING, R.CANCELLED, R.FAILED, R.SUCCEEDED},
        R.FAILED: {R.RUNNING},  # a step is tried again
        R.CANCELLED: {R.RUNNING},
        R.SUCCEEDED: set(),
    },
)

STEP_LIFE = Lifecycle(
    StepState,
    {
        S.WAITING: {S.RUNNING, S.SKIPPED, S.CANCELLED},
        S.RUNNING: {S.APPROVAL, S.SUCCEEDED, S.FAILED, S.CANCELLED},
        S.APPROVAL: {S.SUCCEEDED, S.FAILED, S.CANCELLED},
        S.FAILED: {S.WAITING, S.RUNNING},  # tried again; its job was resumed
        S.SKIPPED: {S.WAITING},
        S.CANCELLED: {S.WAITING, S.RUNNING},  # as failed ones
        S.SUCCEEDED: set(),
    },
)

#: Nothing happens to the step any more unless a person acts.
STEP_ENDED = frozenset({S.SUCCEEDED, S.FAILED, S.SKIPPED, S.CANCELLED})
RUN_ENDED = frozenset({R.SUCCEEDED, R.FAILED, R.CANCELLED})
