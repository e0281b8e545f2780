"""What people see of a run: its steps with their words, figures and times, and the evidence for an approval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils import timezone

from mlxplatform.templatetags.numbers import duration, loss, signif
from pipelines import drawing, timeline
from pipelines.catalog import STEP_KINDS
from pipelines.definition import INPUTS, Definition, Step
from pipelines.models import PipelineRun, StepRun
from pipelines.preflight import find
from pipelines.states import STEP_ENDED, RunState, StepState
from registry.models import ModelVersion
from training.models import DatasetVersion, Sample
from training.states import JobState
from training.summary import Summary, summaries

#: Figures in the order in which one stands for a step, with their words; other figures follow by their names.
FIGURES = {
    "best_val_loss": "best validation loss",
    "val_loss": "validation loss",
    "best_val_reward": "best reward",
    "val_reward": "reward",
    "reward": "reward",
    "win_rate": "win rate",
    "loss": "loss",
    "perplexity": "perplexity",
    "first_val_loss": "validation loss before",
}
#: A step whose turn it is to be looked at, first of all.
URGENT = (StepState.APPROVAL, StepState.FAILED, StepState.RUNNING)
#: States of a job that say more than that its step runs.
QUIET = frozenset({JobState.QUEUED, JobState.STARTING, JobState.STOPPING, JobState.PAUSED})
SAMPLES, MOST_FIGURES = 2, 12


@dataclass(frozen=True, slots=True)
class Shown:
    """A step of a run as pages show it."""

    row: StepRun
    step: Step
    about: Summary | None = None

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def title(self) -> str:
        return self.step.title

    @property
    def kind(self) -> str:
        return STEP_KINDS[self.row.kind].label if self.row.kind in STEP_KINDS else self.row.kind

    @property
    def state(self) -> str:
        """The step's state, or what its job does meanwhile: it queues, stops or is paused."""
        job = self.row.job
        if self.row.state != StepState.RUNNING or job is None:
            return str(self.row.state)
        if job.state == JobState.STOPPED and self.row.run.state == RunState.PAUSED:
            return str(JobState.PAUSED)  # it was taken out of the queue
        return str(job.state) if job.state in QUIET else str(self.row.state)

    @property
    def word(self) -> str:
        """What stands behind the state in a word."""
        if self.row.reused_id:
            return "reused"
        return f"try {self.row.tries + 1}" if self.row.tries else ""

    @property
    def percent(self) -> int | None:
        """How far a running job is."""
        job = self.row.job
        if self.row.state != StepState.RUNNING or job is None:
            return None
        return int(job.progress * 100) if job.progress or job.state == JobState.RUNNING else None

    @property
    def number(self) -> str:
        """The one figure for the step's place in the picture."""
        if self.percent is not None:
            return f"{self.percent} %"
        if self.row.state == StepState.APPROVAL:
            return "your decision"
        if "passed" in self.row.details:
            return "passed" if self.row.details["passed"] else "not passed"
        name, value = next(self.figures(), ("", None))
        return f"{name.removeprefix('best ').replace('validation', 'val')} {value}" if name else ""

    @property
    def short(self) -> str:
        """The same without the figure's name."""
        is_figure = self.percent is None and self.row.state != StepState.APPROVAL and "passed" not in self.row.details
        return self.number.rpartition(" ")[2] if is_figure else self.number

    @property
    def seconds(self) -> float | None:
        """How long it has taken so far."""
        if self.row.started_at is None or self.row.reused_id:
            return None
        return ((self.row.ended_at or timezone.now()) - self.row.started_at).total_seconds()

    @property
    def measured(self) -> dict[str, float]:
        """Its figures by name."""
        found = self.row.outputs.get("metrics")
        return found if isinstance(found, dict) else {}

    def figures(self) -> Iterator[tuple[str, str]]:
        """Its figures with words, the most telling first."""
        for name in ordered(self.measured)[:MOST_FIGURES]:
            yield words(name), figure(name, self.measured[name])

    def spans(self, now: datetime) -> Iterator[timeline.Span]:
        """What it did when."""
        row = self.row
        if row.started_at is None:
            return
        end = row.ended_at or now
        if row.kind == "approve":
            yield "approval", row.started_at, end
        elif row.job is None or row.reused_id:
            yield "moment", row.started_at, end
        else:
            began = min(max(row.job.started_at or end, row.started_at), end)
            yield "wait", row.started_at, began
            if row.job.started_at is not None:
                yield "run", began, end


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in a list."""

    run: PipelineRun

    @property
    def state(self) -> str:
        """As :attr:`Story.state`, from the prefetched steps."""
        return state_of(self.run, [step.state for step in self.run.steps.all()])

    @property
    def progress(self) -> float:
        return self.run.progress

    @property
    def seconds(self) -> float | None:
        """How long it took, once it has ended."""
        return (self.run.ended_at - self.run.created_at).total_seconds() if self.run.ended_at else None


def state_of(run: PipelineRun, steps: Sequence[str]) -> str:
    """The run's state for people: "stopping" once somebody has ended it, "approval" while only a person is awaited."""
    if run.cancel_requested_at is not None and not run.has_ended:
        return "stopping"
    awaits = run.state == RunState.RUNNING and StepState.APPROVAL in steps and StepState.RUNNING not in steps
    return "approval" if awaits else str(run.state)


@dataclass(frozen=True, slots=True)
class Story:
    """A whole run as its page shows it."""

    run: PipelineRun
    definition: Definition
    steps: dict[str, Shown]
    now: datetime = field(default_factory=timezone.now)

    @property
    def state(self) -> str:
        return state_of(self.run, [shown.row.state for shown in self.steps.values()])

    def _count(self, state: str) -> int:
        return sum(shown.row.state == state for shown in self.steps.values())

    @property
    def done(self) -> int:
        return self._count(StepState.SUCCEEDED)

    @property
    def failed(self) -> int:
        return self._count(StepState.FAILED)

    @property
    def skipped(self) -> int:
        return self._count(StepState.SKIPPED)

    @property
    def progress(self) -> float:
        return self.run.progress

    @property
    def seconds(self) -> float:
        return ((self.run.ended_at or self.now) - self.run.created_at).total_seconds()

    @property
    def has_begun(self) -> bool:
        return any(shown.row.state != StepState.WAITING for shown in self.steps.values())

    def chosen(self, name: str) -> Shown:
        """The step with that name, else the one that matters most now."""
        if name in self.steps:
            return self.steps[name]
        shown = list(self.steps.values())
        for state in URGENT:
            if found := next((one for one in shown if one.row.state == state), None):
                return found
        ended = [one for one in shown if one.row.state == StepState.SUCCEEDED]
        return ended[-1] if ended else shown[0]

    def picture(self) -> drawing.Drawing:
        return picture(self.definition)

    def lines(self, drawn: drawing.Drawing) -> list[tuple[drawing.Line, str]]:
        """The picture's lines, each with how it looks: taken, never to be taken, or open."""
        return [(line, self._look(line)) for line in drawn.lines]

    def _look(self, line: drawing.Line) -> str:
        state = self.steps[line.source].row.state
        if state not in STEP_ENDED:
            return "open"
        return "taken" if state == line.wants else "dead"

    def timeline(self) -> list[tuple[Shown, list[timeline.Bar], str]]:
        """A row for each step: its bars, and the same in words."""
        end = self.run.ended_at or self.now
        return [
            (shown, made, _said(shown, made))
            for shown in self.steps.values()
            for made in [timeline.bars(self.run.created_at, end, shown.spans(self.now))]
        ]


def story(run: PipelineRun) -> Story:
    """The run with all that its page needs, in a handful of queries."""
    definition = run.version.definition
    rows = list(run.steps.select_related("job__model_version__model", "reused__run").prefetch_related("approvals"))
    about = {one.job.pk: one for one in summaries([row.job for row in rows if row.job is not None])}
    steps = {
        row.name: Shown(row, definition.step(row.name), about.get(row.job.pk) if row.job else None) for row in rows
    }
    return Story(run, definition, steps)


def picture(definition: Definition) -> drawing.Drawing:
    """The picture of a definition."""
    return drawing.draw({step.name: list(definition.needs(step)) for step in definition.steps})


def _said(shown: Shown, made: Sequence[timeline.Bar]) -> str:
    if shown.row.reused_id:
        return "reused"
    says = {"wait": "waited {}", "run": "ran {}", "approval": "stood before a person {}", "moment": "took {}"}
    told = [says[bar.look].format(duration(bar.seconds)) for bar in made if bar.seconds >= 1 or bar.look != "wait"]
    return ", ".join(told) or "has not begun"


def ordered(figures: Mapping[str, Any]) -> list[str]:
    """Names of figures, the most telling first."""
    known = list(FIGURES)
    return sorted(figures, key=lambda name: (known.index(name) if name in FIGURES else len(known), name))


def words(name: str) -> str:
    """A figure's name for people."""
    return FIGURES.get(name, name.replace("_", " "))


def figure(name: str, value: Any) -> str:
    """A figure as text: losses with four places, others with three digits."""
    return str(loss(value)) if name.endswith("loss") else str(signif(value))


@dataclass(frozen=True, slots=True)
class Used:
    """Something a step works with, or a run was started with."""

    label: str
    text: str
    url_name: str = ""
    key: Any = None
    step: str = ""


def used(story: Story, shown: Shown, user: Any) -> list[Used]:
    """What the step works with, by port."""
    made = []
    for port, reference in shown.step.uses.items():
        source, _, output = reference.partition(".")
        label = port.replace("_", " ")
        if source == INPUTS:
            made.append(_given(story, output, label, user))
        elif source in story.steps:
            made.append(Used(label, f"{story.steps[source].title}: {output.replace('_', ' ')}", step=source))
    return made


def given(story: Story, user: Any) -> list[Used]:
    """What the run was started with."""
    return [_given(story, name, one.label or name, user) for name, one in story.definition.inputs.items()]


def _given(story: Story, name: str, label: str, user: Any) -> Used:
    value, kind = story.run.inputs.get(name), story.definition.inputs[name].type
    if kind == "number":
        return Used(label, f"{value:,}" if isinstance(value, int | float) else "–")
    row = find(DatasetVersion if kind == "dataset" else ModelVersion, user, value)
    if row is None:
        return Used(label, "deleted")
    if kind == "dataset":
        return Used(label, str(row), "dataset", row.dataset_id)
    return Used(label, str(row), "model_version", row.pk)


def made(shown: Shown, user: Any) -> list[Used]:
    """The versions that the step made."""
    found = []
    for name, key in shown.row.outputs.items():
        if name != "metrics" and (row := find(ModelVersion, user, key)) is not None:
            found.append(Used(name.replace("_", " "), str(row), "model_version", row.pk))
    return found


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a person looks at before deciding."""

    candidate: ModelVersion | None
    baseline: ModelVersion | None
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    samples: list[dict[str, Any]]
    candidate_step: str = ""


def evidence(story: Story, shown: Shown, user: Any) -> Evidence:
    """Candidate, what it would replace, figures side by side and a few answers."""
    models: dict[str, ModelVersion | None] = {}
    tables: dict[str, dict[str, float]] = {}
    for port, reference in shown.step.uses.items():
        source, _, output = reference.partition(".")
        if output == "metrics" and source in story.steps:
            tables[story.steps[source].title] = story.steps[source].measured
        else:
            key = story.run.inputs.get(output) if source == INPUTS else story.steps[source].row.outputs.get(output)
            models[port] = find(ModelVersion, user, key)
    names = ordered({name: 0 for table in tables.values() for name in table})[:MOST_FIGURES]
    rows = [(words(n), [figure(n, t[n]) if n in t else "–" for t in tables.values()]) for n in names]
    candidate = models.get("model")
    source = shown.step.uses.get("model", "").partition(".")[0]
    return Evidence(candidate, models.get("baseline"), list(tables), rows, samples(candidate), source)


def samples(version: ModelVersion | None) -> list[dict[str, Any]]:
    """Answers to the same prompts before its training and after."""
    if version is None or version.job_id is None:
        return []
    rows: dict[int, dict[str, Any]] = {}
    for sample in Sample.objects.filter(job_id=version.job_id, index__lt=SAMPLES).order_by("index", "step"):
        row = rows.setdefault(sample.index, {"prompt": sample.prompt, "before": None, "after": None})
        row["before" if sample.step == 0 else "after"] = sample
    return [row for row in rows.values() if row["after"] is not None]
