"""What is next in a run, done: looks at the jobs, asks the planner, begins, skips, ends.

Everything may happen twice: moves are conditional, a step's job has a key of its own, and the planner says the same of
the same rows. So whoever calls it, a message, the sweep or a test, each step's result comes about once.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Conflict, DomainError, Forbidden, TooMuch
from mlxplatform.core.lifecycle import move
from pipelines import identity, planner
from pipelines.catalog import STEP_KINDS
from pipelines.definition import INPUTS, Definition, Step, filled
from pipelines.models import PipelineRun, StepRun
from pipelines.planner import Need, Node
from pipelines.preflight import find
from pipelines.services.again import goes_on, unskip
from pipelines.states import RUN_ENDED, STEP_ENDED, RunState, StepState
from pipelines.steps.step import Done, Kind, Waits, Work
from registry.models import ModelVersion
from training import services as jobs
from training.engine.errors import ConfigError
from training.models import DatasetVersion, Job
from training.states import ACTIVE, JobState

log = logging.getLogger(__name__)
ROUNDS = 200  # of decisions in one call; the sweep goes on
GONE = "The step's job was deleted."
LOST = "What the step made is not there any more."
#: The job of a failed step has a life again: it was resumed on its own page.
_ALIVE = frozenset({*ACTIVE, JobState.QUEUED, JobState.PAUSED})


def advance_all() -> None:
    """Advance every run that has not ended, and those whose failed step was resumed by its job's page."""
    resumed = Q(steps__job__state__in=_ALIVE) | Q(
        steps__job__state=JobState.SUCCEEDED, steps__job__ended_at__gt=F("steps__ended_at")
    )
    failed = Q(state=RunState.FAILED, steps__state=StepState.FAILED, steps__job__deleted_at=None) & resumed
    rows = PipelineRun.objects.filter(~Q(state__in=RUN_ENDED) | failed).order_by("number").distinct()
    for run_id in rows.values_list("pk", flat=True):
        try:
            advance(run_id)
        except Exception:
            log.exception("Run %s could not be advanced; the others are.", run_id)


def advance(run_id: UUID) -> None:
    """Do everything that can be done now in this run."""
    for _ in range(ROUNDS):
        try:
            if not _round(run_id):
                return
        except Conflict:
            return  # somebody else was first, and goes on
        except PipelineRun.DoesNotExist:
            return


def _round(run_id: UUID) -> bool:
    """One look and its decisions; whether there may be more."""
    with transaction.atomic():  # run and jobs as they stood at one moment: a pause stops the jobs that wait
        run = PipelineRun.objects.select_related("version__pipeline", "owner").get(pk=run_id)
        steps = {step.name: step for step in run.steps.select_related("job")}
    if run.state in (RunState.SUCCEEDED, RunState.CANCELLED):
        return False
    if alive := [step for step in steps.values() if _was_resumed(step)]:
        _reopen(run, alive)
        return True
    if run.state == RunState.FAILED:
        return False
    changed = sum(_look(run, step) for step in steps.values()) > 0
    definition = run.version.definition
    made = planner.plan(
        tuple(_node(definition, steps[step.name]) for step in definition.steps),
        cancelled=run.cancel_requested_at is not None,
        paused=run.state == RunState.PAUSED,
    )
    for name in made.cancel:
        changed |= _cancel(run, steps[name])
    for name, blame in made.skip:
        changed |= _skip(steps[name], steps[blame])
    for name in made.begin:
        changed |= _begin(run, definition, definition.step(name), steps)
    if made.verdict is not None:
        return _close(run, made, steps)
    return changed


def _skip(step: StepRun, blame: StepRun) -> bool:
    with transaction.atomic():
        if not StepRun.objects.select_for_update().filter(pk=blame.pk, state=blame.state).exists():
            raise Conflict("step.moved_on", f"'{blame.name}' is tried again.", "Reload to see where it stands.")
        return _ended(step, StepState.SKIPPED, f"Not reached: '{blame.name}' ended {blame.state}.")


def _close(run: PipelineRun, made: planner.Plan, steps: dict[str, StepRun]) -> bool:
    """End the run, unless somebody has tried a step again meanwhile: then there is more to do."""
    with transaction.atomic():
        if run.steps.exclude(state__in=STEP_ENDED).exists():
            return True
        move(run, str(made.verdict), message=_sentence(made, steps), ended_at=timezone.now())
    return False


def _node(definition: Definition, row: StepRun) -> Node:
    step = definition.step(row.name)
    needs = tuple(Need(name, wish) for name, wish in definition.needs(step))
    return Node(row.name, row.state, needs, tolerated=step.on_failure == "go_on")


def _was_resumed(step: StepRun) -> bool:
    job = step.job
    if step.state != StepState.FAILED or job is None or job.deleted_at is not None:
        return False
    since = job.ended_at is not None and step.ended_at is not None and job.ended_at > step.ended_at
    return job.state in _ALIVE or (job.state == JobState.SUCCEEDED and since)


def _reopen(run: PipelineRun, steps: list[StepRun]) -> None:
    """Bring failed steps, and a run that has failed with them, in line with jobs that go on."""
    with transaction.atomic():
        for step in steps:
            goes_on(step)
        unskip(run)
        if run.state == RunState.FAILED:
            move(run, RunState.RUNNING, only_from={RunState.FAILED}, message="", ended_at=None)


def _look(run: PipelineRun, step: StepRun) -> bool:
    """Bring a step in line with its job; whether it moved."""
    job = step.job
    if step.state != StepState.RUNNING:
        return False
    if job is None or job.deleted_at is not None:
        return _ended(step, StepState.FAILED, GONE)
    if job.state == JobState.SUCCEEDED:
        try:
            outputs = dict(STEP_KINDS[step.kind].result(job))
        except (ObjectDoesNotExist, KeyError):
            return _ended(step, StepState.FAILED, LOST)
        return _ended(step, StepState.SUCCEEDED, "", outputs=outputs)
    if job.state == JobState.FAILED:
        return _ended(step, StepState.FAILED, f"{job.message} {job.hint}".strip())
    if job.state == JobState.STOPPED and run.cancel_requested_at is not None:
        return _ended(step, StepState.CANCELLED, "Stopped with the run.")
    if job.state == JobState.STOPPED and run.state != RunState.PAUSED:
        return _ended(step, StepState.FAILED, f"Job #{job.number} was stopped.")
    return False


def _ended(step: StepRun, state: str, message: str, **columns: Any) -> bool:
    move(step, state, message=message, ended_at=timezone.now(), **columns)
    return True


def _begin(run: PipelineRun, definition: Definition, step: Step, steps: dict[str, StepRun]) -> bool:
    """Begin a step; what prevents it fails it, with the reason. False: not now."""
    row = steps[step.name]
    try:
        with transaction.atomic():
            _still_open(run)
            _try(run, definition, step, steps)
    except TooMuch as error:
        StepRun.objects.filter(pk=row.pk, state=StepState.WAITING).update(message=f"Waits: {error.message}")
        return False
    except Conflict:
        raise
    except (DomainError, ConfigError) as error:
        log.info("Step %s of run #%s cannot begin: %s", step.name, run.number, error)
        problems = [problem.as_dict() for problem in error.problems]
        with transaction.atomic():
            move(row, StepState.RUNNING, only_from={StepState.WAITING}, started_at=timezone.now())
            _ended(row, StepState.FAILED, f"{error.message} {error.hint}".strip(), details={"problems": problems})
    return True


def _still_open(run: PipelineRun) -> None:
    """Raise Conflict if somebody has paused or cancelled the run since it was looked at."""
    rows = PipelineRun.objects.select_for_update().filter(pk=run.pk, state=RunState.RUNNING, cancel_requested_at=None)
    if rows.first() is None:
        raise Conflict("run.moved_on", f"Run #{run.number} does not go on.", "Reload to see where it stands.")


def _may(user: Any) -> None:
    if user is None:
        text = "The person who started the run is gone."
        raise DomainError("run.no_owner", text, "Start it anew; results that are there are taken.")
    require(user, Role.EDITOR)


def _try(run: PipelineRun, definition: Definition, step: Step, steps: dict[str, StepRun]) -> None:
    _may(run.owner)
    if step.kind not in STEP_KINDS:
        raise DomainError("step.kind", f"There is no kind of step '{step.kind}' any more.", "Change the pipeline.")
    row, kind = steps[step.name], STEP_KINDS[step.kind]
    numbers = {name: value for name, value in run.inputs.items() if isinstance(value, int | float)}
    settings = kind.whole(filled(step.settings, numbers))
    inputs = {port: _input(run, definition, reference, steps) for port, reference in step.uses.items()}
    row.identity = identity.of(step, settings, inputs, {name: other.digest for name, other in steps.items()})
    row.digest = identity.digest(row.identity)
    facts = {"identity": row.identity, "digest": row.digest, "message": "", "started_at": timezone.now()}
    move(row, StepState.RUNNING, only_from={StepState.WAITING}, **facts)
    if kind.reusable and (earlier := identity.earlier(row, run.owner)) is not None:
        text = f"Taken from run #{earlier.run.number}: same model, data, settings and engine."
        StepRun.objects.filter(pk=row.pk).update(reused=earlier, job=earlier.job, why=text)
        move(row, StepState.SUCCEEDED, outputs=earlier.outputs, ended_at=timezone.now())
        return
    if kind.reusable and (same := identity.at_work(row)) is not None:
        text = f"run #{same.run.number} makes the same in its step '{same.name}'."
        raise TooMuch("step.same", text, "Its result will be taken.")
    title = f"{run.version.pipeline.name} · {step.title}"[:120]
    work = Work(run.owner, title, f"step {row.pk} {row.tries}", settings, inputs)
    _begun(row, kind, kind.begin(work))


def _begun(row: StepRun, kind: Kind, begun: Job | Done | Waits) -> None:
    why = identity.differences(row) if kind.reusable else ""
    if isinstance(begun, Job):
        StepRun.objects.filter(pk=row.pk).update(job=begun, why=why)
    elif isinstance(begun, Waits):
        move(row, StepState.APPROVAL, message=begun.message, details=dict(begun.details))
    else:
        state = StepState.SUCCEEDED if begun.passed else StepState.FAILED
        _ended(row, state, begun.message, outputs=dict(begun.outputs), details=dict(begun.details))


def _input(run: PipelineRun, definition: Definition, reference: str, steps: dict[str, StepRun]) -> Any:
    """The row or the figures that ``reference`` stands for. Raises DomainError when it is gone."""
    source, _, output = reference.partition(".")
    if source == INPUTS:
        table: Any = DatasetVersion if definition.inputs[output].type == "dataset" else ModelVersion
        key = run.inputs[output]
    else:
        table, key = ModelVersion, steps[source].outputs.get(output)
        if output == "metrics" and key is not None:
            return key
    row = find(table, run.owner, key)
    if row is None:
        raise DomainError("input.gone", f"{reference} is not there any more.", "Restore it, or start anew.")
    return row


def _cancel(run: PipelineRun, step: StepRun) -> bool:
    """End a step of a cancelled run; a job is asked to save and stop, and the step ends with it."""
    job = step.job
    if step.state != StepState.RUNNING or job is None:
        return _ended(step, StepState.CANCELLED, "Cancelled with the run.")
    if job.state == JobState.PAUSED:
        return _ended(step, StepState.CANCELLED, "Cancelled while its job was paused.")
    if job.stop_wanted:
        return False
    try:  # whoever cancelled has asked already: this job was resumed since
        return jobs.request_stop(run.owner, job).state == JobState.STOPPED
    except Forbidden:
        log.warning("Job #%s of run #%s goes on: its owner may not stop it.", job.number, run.number)
        return False


def _sentence(made: planner.Plan, steps: dict[str, StepRun]) -> str:
    if made.verdict == RunState.FAILED:
        step = steps[made.blame[0]]
        return f"'{step.name}' {step.state}: {step.message}"
    return "Cancelled." if made.verdict == RunState.CANCELLED else ""
