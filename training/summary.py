"""A job in a line, for lists, the home page and the head of its own page: how it stands and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, Subquery
from django.utils import timezone

from training.charts import remaining
from training.engine.catalog.adapters import ADAPTERS
from training.engine.catalog.charts import quantity
from training.engine.catalog.methods import METHODS
from training.goals import goal_of, method_of
from training.models import Job, Metric, MetricPoint
from training.states import JobState

CURVES = (
    "train_loss",
    *(f"val_{goal}" for goal in sorted({row.settings.goal for row in METHODS})),  # type: ignore[attr-defined]
    "reward",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "peak_memory_gb",
    "memory_gb",
    "epoch",
    "trained_tokens",
)

#: What a reason code means to a person, by the code or its first part; shown after the state.
REASONS = {
    "config": "settings",
    "data": "data",
    "model": "model",
    "memory": "out of memory",
    "diverged": "diverged",
    "storage": "disk",
    "lost": "process lost",
    "poisoned": "fails at the same step",
    "bug": "internal error",
    "cancelled": "cancelled",
    "stopped": "",
    "paused": "",
    "drained": "service restarted",
}

#: Families of failures that the same settings would only repeat.
HOPELESS = frozenset({"config", "data", "model", "diverged"})


@dataclass(frozen=True, slots=True)
class Summary:
    """A job with its figures. Losses are nats per trained token; None where there is no value yet."""

    job: Job
    last: dict[str, float | None] = field(default_factory=dict)
    goal: str = "loss"
    first_val: float | None = None
    best_val: float | None = None
    best_step: int | None = None
    seconds_left: float | None = None

    @property
    def change(self) -> float | None:
        """The best held-out value against the one before training: for a loss as a share (-0.31 is 31 % lower),
        for a reward, which may be 0 or less, as a difference."""
        if self.first_val is None or self.best_val is None:
            return None
        if not self.is_loss:
            return self.best_val - self.first_val
        return (self.best_val - self.first_val) / self.first_val if self.first_val else None

    @property
    def is_loss(self) -> bool:
        """Whether it is judged by a loss, of which less is better."""
        return self.goal == "loss"

    @property
    def look(self) -> str:
        """Whether the change is a good one: better, worse or neither."""
        if not self.change:
            return ""
        return "better" if (self.change < 0) == self.is_loss else "worse"

    @property
    def goal_label(self) -> str:
        """What it is judged by, for before a number."""
        return "Validation loss" if self.is_loss else f"{quantity(self.goal).label} on held-out prompts"

    @property
    def is_training(self) -> bool:
        return self.job.kind == Job.Kind.TRAIN

    @property
    def is_evaluation(self) -> bool:
        return self.job.kind == Job.Kind.EVALUATE

    @property
    def method(self) -> str:
        """Method and adapter in a few words, such as "DPO, LoRA"; the usual method is not named."""
        label = METHODS[method_of(self.job)].label
        return self.adapter if method_of(self.job) == METHODS.names[0] else f"{label}, {self.adapter}"

    @property
    def adapter(self) -> str:
        """The adapter by its label; QLoRA where LoRA trains on a quantised base."""
        name = str((self.job.settings.get("adapter") or {}).get("name", ""))
        base = self.job.model_version
        if name == "lora" and base is not None and base.whole.quantization:
            return "QLoRA"
        return ADAPTERS[name].label if name in ADAPTERS else name

    @property
    def reason(self) -> str:
        """The reason in a word or two, nothing for a state that needs none."""
        code = self.job.reason
        if self.job.state == JobState.QUEUED and code:
            return f"again after: {reason_words(code)}"
        return reason_words(code) if code and self.job.state != JobState.SUCCEEDED else ""

    @property
    def is_worth_resuming(self) -> bool:
        """Whether the same settings may do better another time: not when settings, data or model are wrong."""
        return self.job.is_resumable and self.job.reason.split(".")[0] not in HOPELESS

    @property
    def is_asked_to_end(self) -> bool:
        """Somebody pressed a button and the worker has not acted on it yet."""
        return self.job.stop_wanted and self.job.state in {JobState.STARTING, JobState.RUNNING}

    @property
    def shown_state(self) -> str:
        """The state, or ``stopping`` as soon as an end was asked for."""
        return str(JobState.STOPPING if self.is_asked_to_end else self.job.state)

    @property
    def done_at(self) -> datetime | None:
        """When it will probably be done."""
        return timezone.now() + timedelta(seconds=self.seconds_left) if self.seconds_left is not None else None

    @property
    def percent(self) -> int:
        """Share that is done, rounded down, so that 100 means done."""
        return int(self.job.progress * 100)

    @property
    def seconds(self) -> float | None:
        """How long it has been running or ran, from its first start."""
        if self.job.started_at is None:
            return None
        end = self.job.ended_at or timezone.now()
        return max(0.0, (end - self.job.started_at).total_seconds())


def reason_words(code: str) -> str:
    """A reason code such as ``data.rows`` in words."""
    family = code.split(".", maxsplit=1)[0]
    return REASONS.get(code, REASONS.get(family, code.replace(".", " ").replace("_", " ")))


def summaries(jobs: Iterable[Job]) -> list[Summary]:
    """The summaries of ``jobs`` in their order. At most three queries, whatever the number of jobs."""
    jobs = list(jobs)
    first = MetricPoint.objects.filter(metric=OuterRef("pk"), value__isnull=False).order_by("step").values("value")[:1]
    metrics = Metric.objects.filter(job__in=[job.pk for job in jobs], name__in=CURVES).annotate(first=Subquery(first))
    found: dict[Any, dict[str, Metric]] = {}
    for metric in metrics:
        found.setdefault(metric.job_id, {})[metric.name] = metric
    left = remaining(jobs)
    return [_summary(job, found.get(job.pk, {}), left.get(job.pk)) for job in jobs]


def summary(job: Job) -> Summary:
    """The summary of one job."""
    return summaries([job])[0]


def _summary(job: Job, metrics: dict[str, Any], left: float | None) -> Summary:
    goal = goal_of(job)
    val = metrics.get(f"val_{goal}")
    return Summary(
        job,
        {name: metric.last_value for name, metric in metrics.items()},
        goal=goal,
        first_val=val.first if val else None,
        best_val=val.best_value if val else None,
        best_step=val.best_step if val else None,
        seconds_left=left,
    )
