"""Closing an attempt whose process is gone: facts, verdict, landing, then the rows in one transaction."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.utils import timezone

from mlxplatform.core.errors import DomainError
from mlxplatform.core.lifecycle import move
from training.dispatch import made_checkpoint, release
from training.endings import Facts, Verdict, verdict
from training.engine.run.journal import last_word
from training.landing import land
from training.models import Attempt, Job, JobEvent
from training.process import Exit
from training.signals import job_finished, job_queued
from training.states import AttemptState, JobState

log = logging.getLogger(__name__)

OUTPUT_TAIL = 4096  # bytes of the raw output that are looked at for a reason


def settle(attempt: Attempt, gone: Exit, *, told_to_stop: bool = False, out_of_memory: bool = False) -> None:
    """Close ``attempt``, whose process is gone and whose journal is in the database to its end.

    Raises Conflict when another worker holds the job. Nothing is announced before the commit.
    """
    attempt.refresh_from_db()
    job = Job.objects.get(pk=attempt.job_id)
    facts = gather(job, attempt, gone)
    facts = replace(facts, told_to_stop=told_to_stop, out_of_memory=out_of_memory)
    close(job, attempt, gone, _landed(job, verdict(facts)))


def gather(job: Job, attempt: Attempt, gone: Exit) -> Facts:
    """What rows and files tell about the end."""
    losses, same_step = _losses(job, attempt)
    return Facts(
        word=last_word(attempt.folder.journal),
        exit_code=gone.code,
        exit_signal=gone.signal,
        stop_wanted=job.stop_requested_at is not None or job.kill_requested_at is not None,
        pause_wanted=job.pause_requested_at is not None,
        losses=losses,
        same_step=same_step,
        output=_last_lines(attempt),
    )


def close(job: Job, attempt: Attempt, gone: Exit, end: Verdict) -> None:
    """Write the end: attempt, job and slot in one transaction, under the fence."""
    now, fence = timezone.now(), attempt.fence
    with transaction.atomic():
        _through_declared_moves(job, attempt, end)
        move(
            attempt,
            end.attempt,
            fence=fence,
            ended_at=now,
            exit_code=gone.code,
            exit_signal=gone.signal,
            reason=end.reason,
        )
        if end.job == JobState.QUEUED and end.message:
            JobEvent.objects.append(job.pk, [("log", {"level": "warning", "message": end.message})], fence=fence)
        move(job, end.job, fence=fence, **_columns(end, now))
        release(job, fence)
        news = job_queued if end.job == JobState.QUEUED else job_finished
        transaction.on_commit(lambda: _announce(news, job))


def _through_declared_moves(job: Job, attempt: Attempt, end: Verdict) -> None:
    """Pass the states between: an end follows a beginning, and 'paused' follows 'stopping'."""
    if end.attempt == AttemptState.SUCCEEDED and attempt.state == AttemptState.STARTING:
        move(attempt, AttemptState.RUNNING, fence=attempt.fence)
    if end.job == JobState.SUCCEEDED and job.state == JobState.STARTING:
        move(job, JobState.RUNNING, fence=attempt.fence)
    if end.job == JobState.PAUSED and job.state != JobState.STOPPING:
        move(job, JobState.STOPPING, fence=attempt.fence)


def _columns(end: Verdict, now: Any) -> dict[str, Any]:
    """The job's columns that go with its new state."""
    if end.job == JobState.QUEUED:
        # It keeps its place in the queue, so it is the next to run.
        return {"reason": end.reason, "message": end.message, "hint": "", "phase": ""}
    columns = {"reason": end.reason, "message": end.message, "hint": end.hint, "phase": "", "ended_at": now}
    if end.job == JobState.SUCCEEDED:
        columns |= {"progress": 1.0}
    return columns


def _landed(job: Job, end: Verdict) -> Verdict:
    """For a success: register what was made first. When that cannot be done, the job has failed, and says why."""
    if end.job != JobState.SUCCEEDED:
        return end
    try:
        ids = land(job, job.result)
    except DomainError as error:
        return Verdict(AttemptState.FAILED, JobState.FAILED, error.code, error.message, error.hint)
    except OSError as error:
        message = f"What was made could not be stored: {error.strerror}."
        hint = "Free some disk space, then resume: the last step is done again from the last checkpoint."
        return Verdict(AttemptState.FAILED, JobState.FAILED, "landing.disk", message, hint)
    job.result = {**job.result, **ids}
    Job.objects.filter(pk=job.pk).update(result=job.result)
    return end


def _losses(job: Job, attempt: Attempt) -> tuple[int, bool]:
    """Losses in a row without a new checkpoint if this is one too, and whether the one before was at the same step.

    Only attempts since a person last queued the job count. A loss before the first step is no sign that
    a certain step is to blame.
    """
    if made_checkpoint(attempt):
        return 0, False
    count, same_step = 1, False
    for earlier in job.attempts.filter(n__lt=attempt.n, started_at__gte=job.queued_at).order_by("-n"):
        if earlier.state != AttemptState.LOST:
            break
        if count == 1:
            same_step = attempt.step > attempt.first_step and earlier.step == attempt.step
        if made_checkpoint(earlier):
            break
        count += 1
    return count, same_step


def _last_lines(attempt: Attempt) -> str:
    """The last two lines of the raw output, which hold the reason when there was no journal to write it to."""
    try:
        with open(attempt.folder.stdout, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - OUTPUT_TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [re.sub(r"[\x00-\x1f\x7f-\x9f]", "", line).strip() for line in text.splitlines()]
    return " ".join([line for line in lines if line][-2:])[:600]


def _announce(news: Any, job: Job) -> None:
    """Tell the rooms above; their faults are logged and undo nothing."""
    for receiver, answer in news.send_robust(sender=Job, job_id=job.pk):
        if isinstance(answer, Exception):
            log.error("%s failed for job %s: %s", receiver, job.pk, answer)
