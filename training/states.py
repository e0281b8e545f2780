"""The lives of a job and of an attempt, as data. Who may make which move: ``docs/architecture.md``."""

from __future__ import annotations

from django.db import models

from mlxplatform.core.lifecycle import Lifecycle


class JobState(models.TextChoices):
    """Where a job stands."""

    QUEUED = "queued"  # waits for a slot
    STARTING = "starting"  # has a slot; its engine has not yet said 'started'
    RUNNING = "running"
    STOPPING = "stopping"  # asked to end; saves a checkpoint
    PAUSED = "paused"  # ended by a person who means to go on
    STOPPED = "stopped"  # ended by a person
    SUCCEEDED = "succeeded"  # never reopens
    FAILED = "failed"


class AttemptState(models.TextChoices):
    """How one process of a job lives and ended."""

    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    DRAINED = "drained"  # checkpointed because the service went down; goes on by itself
    LOST = "lost"  # died without a last word


J, A = JobState, AttemptState

JOB_LIFE = Lifecycle(
    JobState,
    {
        J.QUEUED: {J.STARTING, J.STOPPED},
        J.STARTING: {J.RUNNING, J.STOPPING, J.FAILED, J.QUEUED, J.STOPPED},
        J.RUNNING: {J.STOPPING, J.SUCCEEDED, J.FAILED, J.QUEUED, J.STOPPED},
        J.STOPPING: {J.SUCCEEDED, J.STOPPED, J.PAUSED, J.FAILED},
        J.PAUSED: {J.QUEUED},
        J.STOPPED: {J.QUEUED},
        J.FAILED: {J.QUEUED},
        J.SUCCEEDED: set(),
    },
)

ATTEMPT_LIFE = Lifecycle(
    AttemptState,
    {
        A.STARTING: {A.RUNNING, A.FAILED, A.STOPPED, A.DRAINED, A.LOST},
        A.RUNNING: {A.SUCCEEDED, A.FAILED, A.STOPPED, A.DRAINED, A.LOST},
        A.SUCCEEDED: set(),
        A.FAILED: set(),
        A.STOPPED: set(),
        A.DRAINED: set(),
        A.LOST: set(),
    },
)

#: The job holds a slot and a process may live.
ACTIVE = frozenset({J.STARTING, J.RUNNING, J.STOPPING})
#: The job can be resumed: same job, new attempt.
RESUMABLE = frozenset({J.STOPPED, J.PAUSED, J.FAILED})
#: Nothing happens to the job unless a person acts.
ENDED = frozenset({J.STOPPED, J.PAUSED, J.SUCCEEDED, J.FAILED})
