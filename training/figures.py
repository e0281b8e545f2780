"""The numbers of evaluations as tables show them, with the best of those that may be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training import measures
from training.measures import Measure
from training.models import Evaluation, Job
from training.models.evaluations import EvaluationQuerySet

#: Figures that no column of a table is spent on; the evaluation's own page has them.
ASIDE = {
    "loss_tokens",
    "win_rate_low",
    "win_rate_high",
    "reward_baseline",
    "answer_tokens",
    "cut_share",
    "read_tokens_per_second",
}
#: Figures of the machine more than of the model: they differ from run to run, and none is marked as best.
RUNS = {"tokens_per_second", "read_tokens_per_second", "peak_memory_gb"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number; ``best``: none of those that may be compared is better, and some are worse."""

    measure: Measure
    value: float | None
    best: bool = False

    @property
    def bytes(self) -> float | None:
        """Of a number of GiB."""
        return None if self.value is None else self.value * (1 << 30)


def columns(rows: Iterable[Evaluation]) -> list[Measure]:
    """What a table of ``rows`` has columns for."""
    found = dict.fromkeys(name for row in rows for name in row.values)
    return [measure for measure, _ in measures.shown(found) if measure.name not in ASIDE]


def of(row: Evaluation, columns: Sequence[Measure], among: EvaluationQuerySet) -> list[Figure]:
    """The numbers of ``row``; those are marked that are the best of the comparable ones in ``among``."""
    others = list(among.alike(row).exclude(pk=row.pk).values_list("values", flat=True))
    found = []
    for measure in columns:
        value = row.values.get(measure.name)
        known = {values[measure.name] for values in others if measure.name in values}
        found.append(Figure(measure, value, value is not None and _is_best(measure, value, known)))
    return found


def _is_best(measure: Measure, value: float, known: set[float]) -> bool:
    if not measure.better or measure.name in RUNS or known <= {value}:
        return False
    return value == measure.best([value, *known])


def of_job(job: Job, among: EvaluationQuerySet) -> list[Figure]:
    """The numbers of an evaluation's own page; before it has succeeded, those that are known."""
    row = Evaluation.objects.filter(job=job).first()
    if row is not None:
        return of(row, [measure for measure, _ in measures.shown(row.values)], among)
    known = {metric.name: metric.last_value for metric in job.metrics.all() if metric.last_value is not None}
    return [Figure(measure, value) for measure, value in measures.shown(known)]
