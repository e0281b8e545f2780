"""What the API of the training room takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from ninja import Header, Schema
from pydantic import ConfigDict, Field

from training.engine.config.derived import Draw, Layers

#: The header by which a POST may be sent twice without being done twice.
Key = Header("", alias="Idempotency-Key", max_length=120, description="The same key returns the first answer's job.")


class Strict(Schema):
    """A body: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class TrainIn(Strict):
    """A training to start. ``settings``: see ``/api/v1/catalog``; what is left out has its default."""

    model_version_id: UUID
    dataset_version_id: UUID
    name: str = ""
    settings: dict[str, Any] = {}
    priority: int = 0
    parent: UUID | None = None
    others: dict[str, UUID] = Field({}, description="Further model versions by role: teacher, reward_model.")
    force_memory: bool = Field(False, description="Start it though its plan of memory says that it does not fit.")


class MemoryIn(Strict):
    """A training that may be started: what would it hold in memory?"""

    model_version_id: UUID
    dataset_version_id: UUID
    settings: dict[str, Any] = {}
    others: dict[str, UUID] = Field({}, description="Further model versions by role: teacher, reward_model.")
    measure: bool = Field(False, description="Compute one update for real, which may take a minute or two.")


class JobIn(TrainIn):
    """The same under ``/jobs``, with its kind."""

    kind: Literal["train"] = "train"


class JobPatch(Strict):
    """What may be changed of a job; the rest stays."""

    name: str | None = None
    notes: str | None = None
    priority: int | None = None


class JobRow(Schema):
    """A job in a list. ``progress`` is a share from 0 to 1; ``step`` counts optimizer updates."""

    id: UUID
    number: int
    name: str
    kind: str
    state: str
    reason: str
    message: str
    hint: str
    phase: str
    progress: float
    step: int
    total_steps: int
    priority: int
    owner: str | None
    parent_id: UUID | None
    model_version_id: UUID | None
    dataset_version_id: UUID | None
    last_seq: int
    stop_requested_at: datetime | None
    pause_requested_at: datetime | None
    kill_requested_at: datetime | None
    created_at: datetime
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    deleted_at: datetime | None

    @staticmethod
    def resolve_owner(row: Any) -> str | None:
        return row.owner.username if row.owner else None


class AttemptOut(Schema):
    """One process of a job."""

    n: int
    state: str
    reason: str


class JobOut(JobRow):
    """A job with all there is to it."""

    notes: str
    settings: dict[str, Any]
    result: dict[str, Any]
    attempts: list[AttemptOut]
    others: dict[str, UUID] = Field(description="Further model versions that it works with, by role.")

    @staticmethod
    def resolve_others(row: Any) -> dict[str, UUID]:
        return {one.role: one.version_id for one in row.inputs.all()}

    @staticmethod
    def resolve_attempts(row: Any) -> list[Any]:
        return list(row.attempts.order_by("n"))


class JobPage(Schema):
    """Jobs, and the cursor of the next page."""

    items: list[JobRow]
    next: str | None


class CurveOut(Schema):
    """One curve: buckets of ``size`` steps, each at its last step, with least, greatest and last value."""

    size: int
    step: list[int]
    min: list[float | None]
    max: list[float | None]
    last: list[float | None]
    t: list[float | None]


class MetricOut(Schema):
    """A metric's name and its last and lowest value."""

    name: str
    last_step: int
    last_value: float | None
    best_step: int | None
    best_value: float | None


class MetricsOut(Schema):
    """The metrics of a job, and the curves that were asked for."""

    metrics: list[MetricOut]
    series: dict[str, CurveOut]


class EventPage(Schema):
    """Events after a ``seq``; ``next`` is the seq to ask after, None at the end. Older than ``pruned_to`` are gone."""

    items: list[dict[str, Any]] = Field(description="``{seq, job, t, at, …}``, as on the socket.")
    next: int | None
    pruned_to: int


class SampleOut(Schema):
    """An answer to a fixed prompt; step 0 is before training."""

    step: int
    index: int
    prompt: str
    text: str
    reference: str
    tokens: int
    seconds: float


class SamplePage(Schema):
    items: list[SampleOut]
    next: str | None


class CheckpointOut(Schema):
    """A complete checkpoint; one with ``removed_at`` was taken away by the keep rule."""

    id: UUID
    attempt: int
    step: int
    bytes: int
    sha256: str
    val_loss: float | None
    is_best: bool
    created_at: datetime
    removed_at: datetime | None


class CheckpointPage(Schema):
    items: list[CheckpointOut]
    next: str | None


class DatasetVersionOut(Schema):
    """One immutable version."""

    id: UUID
    n: int
    sha256: str
    data_format: str
    rows_train: int
    rows_valid: int
    rows_test: int
    bytes: int
    created_at: datetime


class DatasetRow(Schema):
    """A data set with its newest version."""

    id: UUID
    name: str
    created_at: datetime
    newest: DatasetVersionOut | None


class DatasetPage(Schema):
    items: list[DatasetRow]
    next: str | None


class DatasetVersionFull(DatasetVersionOut):
    """A version with what its import found."""

    source: dict[str, Any]
    report: dict[str, Any]


class DatasetOut(DatasetRow):
    """A data set with all its versions, the newest first."""

    versions: list[DatasetVersionFull]

    @staticmethod
    def resolve_versions(row: Any) -> list[Any]:
        return list(row.versions.order_by("-n"))


class DatasetImportIn(Strict):
    """A data set to import. ``source`` is one of

    ``{"kind": "file", "upload": id}`` · ``{"kind": "file", "path": "/allowed/folder/x.jsonl"}`` ·
    ``{"kind": "hub", "repo_id": …, "revision": …}`` · ``{"kind": "python_docs", "form": "chat"}``, whose
    ``form`` may also be ``preference``, ``kto`` or ``prompts``.
    """

    source: dict[str, Any]
    name: str = ""
    data_format: str = ""
    valid_share: float = 0.05
    test_share: float = 0.0
    max_rows: int = 0
    skip_bad_rows: bool = False
    seed: int = 42


class UploadOut(Schema):
    """A kept file; its id goes into an import's source."""

    id: UUID
    name: str
    bytes: int


class ValidateIn(Strict):
    """An uploaded file to judge; ``max_problems`` of each kind are listed, all are counted."""

    upload: UUID
    data_format: str = Field("", max_length=40)
    max_problems: int = Field(20, ge=1, le=1000)


class TokensIn(Strict):
    """Rows to show token by token, as ``model_version_id``'s tokenizer and the training's mask see them."""

    model_version_id: UUID
    split: Literal["train", "valid", "test"] = "train"
    pick: Literal["rows", "longest", "random", "most_masked"] = "rows"
    rows: list[int] = Field([1], min_length=1, max_length=50)
    count: int = Field(1, ge=1, le=50)
    train_on: Literal["assistant", "last", "all"] = "assistant"
    max_seq_length: int = Field(1024, ge=8, le=1 << 20)
    batch_size: int = Field(4, ge=1, le=4096)
    statistics: bool = False
    seed: int = Field(42, ge=0, lt=1 << 32)


class StudentIn(Strict):
    """A smaller model to make: which layers stay."""

    layers: Layers = Field(
        "every_other",
        description="'every_other', a number of them (the first and the last stay, evenly spaced), or a list from 0.",
    )
    name: str = ""


class GenerateIn(Strict):
    """A data set to make: the model answers the questions of another data set."""

    model_version_id: UUID
    dataset_version_id: UUID
    draw: Draw = Field(default_factory=Draw, description="How answers are drawn.")
    name: str = ""


class ModelImportIn(Strict):
    """A model to import. ``source`` is one of

    ``{"kind": "gguf", "upload": id}`` · ``{"kind": "gguf", "path": …, "sha256": …}`` ·
    ``{"kind": "folder", "path": …}`` · ``{"kind": "hub", "repo_id": …, "revision": …}``.

    With a ``base_version_id`` the folder or repository holds an adapter of mlx-lm or PEFT for that model.
    """

    source: dict[str, Any]
    name: str = ""
    base_version_id: UUID | None = None
