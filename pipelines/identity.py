"""What decides a step's result, so that an equal one need not be computed again.

Content-addressed: models by the sha256 of their files, data by that of its rows, an earlier step's output by the digest
of that step. Names, owners and times decide nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pipelines.definition import INPUTS, Step
from pipelines.models import StepRun
from pipelines.states import RunState, StepState
from registry.models import ModelVersion
from training.engine import ENGINE_VERSION
from training.models import DatasetVersion
from training.states import ACTIVE, JobState

MOST_DIFFERENCES = 3


def of(
    step: Step, settings: Mapping[str, Any], inputs: Mapping[str, Any], digests: Mapping[str, str]
) -> dict[str, Any]:
    """The identity. ``digests``: those of the steps before it, by name."""
    used = {}
    for port, reference in sorted(step.uses.items()):
        source, _, output = reference.partition(".")
        used[port] = _of_row(inputs[port]) if source == INPUTS else f"{digests[source]}.{output}"
    return {"kind": step.kind, "engine": ENGINE_VERSION, "settings": dict(settings), "inputs": used}


def digest(identity: Mapping[str, Any]) -> str:
    """sha256 of the identity, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _of_row(row: Any) -> str:
    if isinstance(row, DatasetVersion):
        return f"data {row.sha256} {row.data_format}"
    if isinstance(row, ModelVersion):
        # A folder whose files are not known is only equal to itself.
        folders = [version.files or str(version.pk) for version in dict.fromkeys((row, row.whole))]
        return f"model {digest({'folders': folders})}"
    return str(row)


def earlier(run_step: StepRun, user: Any) -> StepRun | None:
    """An equal step that has succeeded, and whose results are still there."""
    rows = StepRun.objects.filter(digest=run_step.digest, state=StepState.SUCCEEDED, reused=None)
    for found in rows.exclude(pk=run_step.pk).order_by("-ended_at").select_related("run")[:20]:
        made = [key for name, key in found.outputs.items() if name in ("model", "reward_model")]
        visible = ModelVersion.objects.visible_to(user).filter(pk__in=made, model__deleted_at=None)
        if visible.count() == len(made):
            return found
    return None


def at_work(run_step: StepRun) -> StepRun | None:
    """An equal step that is being computed just now."""
    rows = StepRun.objects.filter(digest=run_step.digest, state=StepState.RUNNING, run__state=RunState.RUNNING)
    alive = rows.filter(job__state__in=(*ACTIVE, JobState.QUEUED), job__deleted_at=None).exclude(pk=run_step.pk)
    return alive.select_related("run").first()


def differences(run_step: StepRun) -> str:
    """What is different from the last time that this step of this pipeline ran, in a sentence."""
    before = (
        StepRun.objects.filter(name=run_step.name, run__version__pipeline=run_step.run.version.pipeline)
        .filter(run__number__lt=run_step.run.number)
        .exclude(digest="")
        .order_by("-run__number")
        .select_related("run")
        .first()
    )
    if before is None:
        return "It runs for the first time."
    old, new = _flat(before.identity), _flat(run_step.identity)
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if not changed:
        return f"Nothing has changed since run #{before.run.number}, but no result of it is left."
    words = [_change(key, old.get(key), new.get(key)) for key in changed[:MOST_DIFFERENCES]]
    more = f" and {len(changed) - MOST_DIFFERENCES} more" if len(changed) > MOST_DIFFERENCES else ""
    return f"Since run #{before.run.number} changed: {', '.join(words)}{more}."


def _change(key: str, old: Any, new: Any) -> str:
    name = key.removeprefix("settings.")
    if key.startswith("inputs."):
        return key.removeprefix("inputs.")
    return f"{name} {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    return "–" if value is None else json.dumps(value)[:40].strip('"')


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{name}.{key}" if name else str(key))
    return found
