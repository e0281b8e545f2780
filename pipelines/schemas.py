"""What the API of the pipelines takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ninja import Header, Schema
from pydantic import Field

from training.schemas import Strict

#: The header by which a run may be asked for twice without being started twice.
Key = Header("", alias="Idempotency-Key", max_length=120, description="The same key returns the first run.")


class PipelinePatch(Strict):
    """A new definition of a pipeline, in one of the two forms."""

    definition: dict[str, Any] | None = Field(None, description="As JSON; its schema is at /pipelines/schema.")
    yaml: str | None = Field(None, description="The same as YAML.")


class PipelineIn(PipelinePatch):
    """A pipeline to make: by a definition in one of the two forms, or by the name of a template."""

    template: str | None = Field(None, max_length=40, description="See /pipeline-templates.")


class PipelineValidateIn(PipelineIn):
    """A definition to judge, and perhaps what a run of it would begin with."""

    inputs: dict[str, Any] | None = Field(None, description="As for a run; if given, it is judged, too.")


class PipelineProblem(Schema):
    """Something that is wrong, as in refusals; ``line`` of the YAML text, from 1."""

    loc: list[str | int]
    code: str
    message: str
    hint: str
    line: int | None = None


class PipelineVerdict(Schema):
    """Whether a definition holds together, and everything that is wrong with it."""

    ok: bool
    errors: list[PipelineProblem]
    definition: dict[str, Any] | None = Field(description="Without what has its default; null: its shape is wrong.")


class PipelineRow(Schema):
    """A pipeline in a list. ``version`` is the number of its newest definition."""

    id: UUID
    name: str
    description: str
    template: str
    owner: str | None
    version: int
    steps: int
    created_at: datetime
    changed_at: datetime


class PipelineOut(PipelineRow):
    """A pipeline with its newest definition."""

    definition: dict[str, Any]


class PipelinePage(Schema):
    """Pipelines, and the cursor of the next page."""

    items: list[PipelineRow]
    next: str | None


class PipelineVersionOut(Schema):
    """One definition of a pipeline; it never changes."""

    n: int
    definition: dict[str, Any]
    created_at: datetime

    @staticmethod
    def resolve_definition(row: Any) -> Any:
        return row.body


class PipelineVersionPage(Schema):
    """Definitions, and the cursor of the next page."""

    items: list[PipelineVersionOut]
    next: str | None


class PipelineRunIn(Strict):
    """What a run begins with."""

    inputs: dict[str, Any] = Field({}, description="By input: the id of a version, or a number.")


class PipelineRunRow(Schema):
    """A run in a list. ``progress`` is a share from 0 to 1, ``version`` the number of its definition."""

    id: UUID
    number: int
    pipeline_id: UUID
    pipeline: str
    version: int
    owner: str | None
    state: str
    message: str
    progress: float
    inputs: dict[str, Any]
    cancel_requested_at: datetime | None
    created_at: datetime
    ended_at: datetime | None

    @staticmethod
    def resolve_pipeline_id(row: Any) -> UUID:
        key: UUID = row.version.pipeline_id
        return key

    @staticmethod
    def resolve_pipeline(row: Any) -> str:
        return str(row.version.pipeline.name)

    @staticmethod
    def resolve_version(row: Any) -> int:
        return int(row.version.n)

    @staticmethod
    def resolve_owner(row: Any) -> str | None:
        return row.owner.username if row.owner else None


class PipelineRunPage(Schema):
    """Runs, and the cursor of the next page."""

    items: list[PipelineRunRow]
    next: str | None


class StepReused(Schema):
    """The step of an earlier run whose result stands for this one."""

    run_id: UUID
    run_number: int
    step: str


class StepApproval(Schema):
    """What a person decided, and the digest of what they saw."""

    user: str | None
    approved: bool
    note: str
    digest: str
    at: datetime

    @staticmethod
    def resolve_user(row: Any) -> str | None:
        return row.user.username if row.user else None


class StepRunOut(Schema):
    """A step of a run. ``digest`` is the sha256 of ``identity``, all that decides its result."""

    name: str
    kind: str
    label: str
    state: str
    progress: float
    tries: int = Field(description="How often it was begun anew.")
    why: str = Field(description="Why it ran, or whose result stands for it.")
    message: str
    job_id: UUID | None
    reused: StepReused | None
    digest: str
    identity: dict[str, Any]
    outputs: dict[str, Any] = Field(description="Ids of versions by output, and figures under metrics.")
    details: dict[str, Any]
    approvals: list[StepApproval]
    started_at: datetime | None
    ended_at: datetime | None

    @staticmethod
    def resolve_label(row: Any) -> str:
        labels = {step["name"]: step.get("label") for step in row.run.version.body["steps"]}
        return str(labels.get(row.name) or row.name.replace("_", " "))

    @staticmethod
    def resolve_progress(row: Any) -> float:
        return 1.0 if row.state == "succeeded" else float(row.progress)

    @staticmethod
    def resolve_reused(row: Any) -> dict[str, Any] | None:
        own = row.reused
        return {"run_id": own.run_id, "run_number": own.run.number, "step": own.name} if own else None

    @staticmethod
    def resolve_approvals(row: Any) -> list[Any]:
        return list(row.approvals.all())


class PipelineRunOut(PipelineRunRow):
    """A run with all its steps and the definition it follows."""

    steps: list[StepRunOut]
    definition: dict[str, Any]

    @staticmethod
    def resolve_steps(row: Any) -> list[Any]:
        return list(row.steps.all())

    @staticmethod
    def resolve_definition(row: Any) -> Any:
        return row.version.body


class RunEventPage(Schema):
    """What happened to a run after an event; ``next`` is the id to ask after, None at the end."""

    items: list[dict[str, Any]] = Field(description="``{id, at, step, from, to, message}``; no step: the run itself.")
    next: int | None


class StepDecisionIn(Strict):
    """A person's answer. ``digest``: that of the step as the person saw it."""

    digest: str = Field(max_length=64)
    note: str = Field("", max_length=2000)


class PipelineTemplateRow(Schema):
    """A pipeline that is ready to run, and what it asks for."""

    name: str
    label: str
    text: str
    inputs: dict[str, Any]


class PipelineTemplateOut(PipelineTemplateRow):
    """A template with its definition, also as YAML."""

    definition: dict[str, Any]
    yaml: str
