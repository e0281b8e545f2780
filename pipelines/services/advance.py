"""What is next in a run, done: looks at the jobs, asks the planner, begins, skips, ends.

Everything may happen twice: moves are conditional, a step's job has a key of its own, and the planner says the same of
the same rows. So whoever calls it, a message, the sweep or a test, each step's result comes about once.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from mlxplatform.core.errors import Conflict, DomainError, TooMuch
from mlxplatform.core.lifecycle import move
from pipelines import identity, planner
from pipelines.catalog import STEP_KINDS
from pipelines.definition import INPUTS, Definition, Step, filled
from pipelines.models import PipelineRun, StepRun
from pipelines.planner import Need, Node
from pipelines.preflight import find
from pipelines.states import RUN_ENDED, RunState, StepState
from pipelines.steps.step import Done, Kind, Waits, Work
from registry.models import ModelVersion
from training import services as jobs
from training.models import DatasetVersion, Job
from training.states import ENDED, JobState

log = logging.getLogger(__name__)
ROUNDS = 200  # of decisions in one call; the sweep goes on
GONE = "The step's job was deleted."


def advance_all() -> None:
    """Advance every run that has not ended, and those whose failed step was resumed by its job's page."""
    for run_id in PipelineRun.objects.exclude(state__in=RUN_ENDED).values_list("pk", flat=True):
        advance(run_id)


def advance(run_id: UUID) -> None:
    """Do everything that can be done now in this run."""
    for _ in range(ROUNDS):
        try:
            if not _round(PipelineRun.objects.select_related("version__pipeline", "owner").get(pk=run_id)):
                return
        except Conflict:
            return  # somebody else was first, and goes on
        except PipelineRun.DoesNotExist:
            return


def _round(run: PipelineRun) -> bool:
    """One look and its decisions; whether there may be more."""
    steps = {step.name: step for step in run.steps.select_related("job")}
    changed = sum(_look(step) for step in steps.values()) > 0
    if run.state in RUN_ENDED:
        open_again = any(step.state == StepState.RUNNING for step in steps.values())
        if open_again and run.state != RunState.SUCCEEDED:
            move(run, RunState.RUNNING, ended_at=None, cancel_requested_at=None)
        return open_again and run.state == RunState.RUNNING
    definition = run.version.definition
    made = planner.plan(
        tuple(_node(definition, steps[step.name]) for step in definition.steps),
        cancelled=run.cancel_requested_at is not None,
        paused=run.state == RunState.PAUSED,
    )
    for name in made.cancel:
        changed |= _cancel(run, steps[name])
    for name, blame in made.skip:
        text = f"Not reached: '{blame}' ended {steps[blame].state}."
        move(steps[name], StepState.SKIPPED, message=text, ended_at=timezone.now())
        changed = True
    for name in made.begin:
        changed |= _begin(run, definition, definition.step(name), steps)
    if made.verdict is not None:
        move(run, made.verdict, message=_sentence(steps.values(), made.verdict), ended_at=timezone.now())
        return False
    return changed


def _node(definition: Definition, row: StepRun) -> Node:
    step = definition.step(row.name)
    needs = tuple(Need(name, wish) for name, wish in definition.needs(step))
    return Node(row.name, row.state, needs, tolerated=step.on_failure == "go_on")


def _look(step: StepRun) -> bool:
    """Bring a step in line with its job; whether it moved."""
    job = step.job
    if step.state == StepState.FAILED and job is not None and job.state not in ENDED:
        move(step, StepState.RUNNING, only_from={StepState.FAILED}, message="", ended_at=None)
        return True
    if step.state != StepState.RUNNING or step.reused_id is not None:
        return False
    if job is None or job.deleted_at is not None:
        return _ended(step, StepState.FAILED, GONE)
    if job.state == JobState.SUCCEEDED:
        outputs = dict(STEP_KINDS[step.kind].result(job))
        return _ended(step, StepState.SUCCEEDED, "", outputs=outputs)
    if job.state == JobState.FAILED:
        return _ended(step, StepState.FAILED, f"{job.message} {job.hint}".strip())
    if job.state == JobState.STOPPED:
        wanted = step.run.cancel_requested_at is not None
        text = "Stopped with the run." if wanted else f"Job #{job.number} was stopped."
        return _ended(step, StepState.CANCELLED if wanted else StepState.FAILED, text)
    return False


def _ended(step: StepRun, state: str, message: str, **columns: Any) -> bool:
    move(step, state, message=message, ended_at=timezone.now(), **columns)
    return True


def _begin(run: PipelineRun, definition: Definition, step: Step, steps: dict[str, StepRun]) -> bool:
    """Begin a step; what prevents it fails it, with the reason. False: not now."""
    row, user = steps[step.name], run.owner
    try:
        with transaction.atomic():
            _try(run, definition, step, steps)
    except TooMuch as error:
        StepRun.objects.filter(pk=row.pk).update(message=f"Waits: {error.message}")
        return False
    except Conflict:
        raise
    except DomainError as error:
        log.info("Step %s of run #%s cannot begin as %s: %s", step.name, run.number, user, error)
        problems = [problem.as_dict() for problem in error.problems]
        with transaction.atomic():
            move(row, StepState.RUNNING, only_from={StepState.WAITING}, started_at=timezone.now())
            _ended(row, StepState.FAILED, f"{error.message} {error.hint}".strip(), details={"problems": problems})
    return True


def _try(run: PipelineRun, definition: Definition, step: Step, steps: dict[str, StepRun]) -> None:
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
        table, key = ModelVersion, steps[source].outputs[output]
        if output == "metrics":
            return key
    row = find(table, run.owner, key)
    if row is None:
        raise DomainError("input.gone", f"{reference} is not there any more.", "Restore it, or start anew.")
    return row


def _cancel(run: PipelineRun, step: StepRun) -> bool:
    """End a step of a cancelled run; a job is asked to save and stop, and the step ends with it."""
    job = step.job
    if step.state == StepState.RUNNING and job is not None:
        if job.state == JobState.PAUSED:
            return _ended(step, StepState.CANCELLED, "Cancelled while its job was paused.")
        if not job.stop_wanted:
            jobs.request_stop(run.owner, job)
        return False
    return _ended(step, StepState.CANCELLED, "Cancelled with the run.")


def _sentence(steps: Any, verdict: str) -> str:
    failed = [step for step in steps if step.state == StepState.FAILED]
    if verdict == RunState.FAILED and failed:
        return f"'{failed[0].name}' failed: {failed[0].message}"
    return "Cancelled." if verdict == RunState.CANCELLED else ""
