"""New jobs that make something out of a registered model: a smaller model, a data set."""

from __future__ import annotations

import json
from typing import Any

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid
from registry.models import ModelVersion
from training import validation
from training.engine.catalog.kinds import KINDS
from training.engine.config import derived
from training.engine.config.derived import Draw, MakeStudentConfig
from training.engine.config.training import check
from training.engine.errors import ConfigError, Problem
from training.models import DatasetVersion, Job
from training.services.queue import enqueue, find, made_before


def create_student(
    user: Any, model_version_id: Any, layers: Any = "every_other", name: str = "", *, idempotency_key: str = ""
) -> Job:
    """Queue the making of a smaller model out of some of a version's layers.

    ``layers``: ``"every_other"``, a number of them, or a list counted from 0. Raises Invalid with all problems,
    TooMuch, Forbidden.
    """
    require(user, Role.EDITOR)
    if made := made_before(user, idempotency_key):
        return made
    model: ModelVersion | None = find(ModelVersion, user, model_version_id)
    problems = validation.name_problems(name, needed=False) + validation.model_problems(model, {})
    kept: list[int] = []
    try:
        asked = check(MakeStudentConfig, {"model": {"model": "unset"}, "layers": layers, "target": "unset"}).layers
        kept = derived.kept(asked, _layers(model)) if model is not None else []
    except ConfigError as error:
        problems += error.problems or [Problem(("layers",), error.code, error.message, error.hint)]
    if problems or model is None:
        raise Invalid.of(problems)
    name = name.strip() or f"{model.model.name[:90]}, {len(kept)} layers"
    source = {"kind": "student", "made_from": str(model), "made_from_version": str(model.pk), "layers": kept}
    return enqueue(
        user,
        Job.Kind.MAKE_STUDENT,
        idempotency_key,
        name=f"{KINDS[Job.Kind.MAKE_STUDENT].label}: {name}"[:120],
        settings={"name": name, "layers": kept, "source": source},
        model_version=model,
    )


def create_generated_dataset(
    user: Any,
    model_version_id: Any,
    dataset_version_id: Any,
    draw: dict[str, Any] | None = None,
    name: str = "",
    *,
    idempotency_key: str = "",
) -> Job:
    """Queue a data set in which the model answers the questions of another one. ``draw``: see
    :class:`training.engine.config.derived.Draw`. Raises Invalid with all problems, TooMuch, Forbidden."""
    require(user, Role.EDITOR)
    if made := made_before(user, idempotency_key):
        return made
    model: ModelVersion | None = find(ModelVersion, user, model_version_id)
    data: DatasetVersion | None = find(DatasetVersion, user, dataset_version_id)
    problems = validation.name_problems(name, needed=False) + validation.model_problems(model, {})
    problems += validation.question_problems(data)
    checked = Draw()
    try:
        checked = check(Draw, draw or {})
    except ConfigError as error:
        problems += error.problems
    if problems or model is None or data is None:
        raise Invalid.of(problems)
    name = name.strip() or f"{data.dataset.name[:60]}, answered by {model.model.name[:40]}"
    source = {
        "kind": "generated",
        "model": str(model),
        "model_version": str(model.pk),
        "dataset": str(data),
        "dataset_version": str(data.pk),
    }
    return enqueue(
        user,
        Job.Kind.GENERATE_DATASET,
        idempotency_key,
        name=f"Generate {name}"[:120],
        settings={"name": name, "draw": checked.model_dump(mode="json"), "source": source},
        model_version=model,
        dataset_version=data,
    )


def _layers(model: ModelVersion) -> int:
    """How many layers the version has. Raises ConfigError ``student.shape``."""
    try:
        about = json.loads((model.whole.folder / "config.json").read_text(encoding="utf-8"))
        count = (about.get("text_config") or about).get("num_hidden_layers") or about.get("num_hidden_layers")
    except (OSError, ValueError, AttributeError):
        count = None
    if not isinstance(count, int):
        raise ConfigError("student.shape", f"{model} does not say how many layers it has.", "Choose another model.")
    return count
