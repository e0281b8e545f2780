"""New evaluations. ``settings`` of the job hold the whole ``EvaluateSettings``, and the id of a ``checkpoint``."""

from __future__ import annotations

import uuid
from typing import Any

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid
from registry.models import ModelVersion
from training import evaluable, validation
from training.engine.config.evaluations import EvaluateSettings
from training.engine.config.training import check
from training.engine.errors import ConfigError
from training.models import Checkpoint, DatasetVersion, Job
from training.services.queue import enqueue, find, made_before


def create_evaluation(
    user: Any,
    *,
    dataset_version_id: Any,
    model_version_id: Any = None,
    checkpoint_id: Any = None,
    settings: dict[str, Any] | None = None,
    reward_version_id: Any = None,
    baseline_version_id: Any = None,
    name: str = "",
    priority: int = 0,
    idempotency_key: str = "",
) -> Job:
    """Queue an evaluation of a model version or of a checkpoint, and return its job.

    ``settings``: see :class:`EvaluateSettings`. ``reward_version_id``: a reward model that scores the answers;
    ``baseline_version_id``: a model whose answers it compares with. Raises Invalid with all problems, TooMuch,
    Forbidden.
    """
    require(user, Role.EDITOR)
    if made := made_before(user, idempotency_key):
        return made
    found = validation.name_problems(name, needed=False) + validation.priority_problems(priority)
    checked: EvaluateSettings | None = None
    try:
        checked = check(EvaluateSettings, settings or {})
    except ConfigError as error:
        found += error.problems
    wish = evaluable.Wish(
        checked,
        find(ModelVersion, user, model_version_id),
        _checkpoint(user, checkpoint_id),
        find(DatasetVersion, user, dataset_version_id),
        find(ModelVersion, user, reward_version_id),
        find(ModelVersion, user, baseline_version_id),
    )
    asked = {
        "model_version_id": model_version_id,
        "checkpoint_id": checkpoint_id,
        "reward_version_id": reward_version_id,
        "baseline_version_id": baseline_version_id,
    }
    found += evaluable.problems(wish, asked)
    if found:
        raise Invalid.of(found)
    return _queued(user, wish, idempotency_key, name=name.strip(), priority=priority)


def _queued(user: Any, wish: evaluable.Wish, key: str, *, name: str, priority: int) -> Job:
    assert wish.settings is not None and wish.data is not None, "what is missing is a problem"
    begun = wish.checkpoint.job if wish.checkpoint else None
    inputs = {
        role: version for role, version in (("reward_model", wish.reward), ("baseline", wish.baseline)) if version
    }
    extra = {"checkpoint": str(wish.checkpoint.pk)} if wish.checkpoint else {}
    subject = f"#{begun.number} step {wish.checkpoint.step}" if wish.checkpoint and begun else str(wish.version)
    return enqueue(
        user,
        Job.Kind.EVALUATE,
        key,
        name=name or f"Evaluate {subject} on {wish.data}"[:120],
        inputs=inputs,
        settings={**wish.settings.model_dump(mode="json"), **extra},
        model_version=begun.model_version if begun else wish.version,
        dataset_version=wish.data,
        parent=begun,
        priority=priority,
    )


def _checkpoint(user: Any, key: Any) -> Checkpoint | None:
    """The checkpoint with this id, as visible as its job; None if there is none."""
    jobs = Job.objects.visible_to(user).filter(deleted_at=None)
    rows = Checkpoint.objects.filter(job__in=jobs).select_related("job__model_version__base")
    try:
        return rows.filter(pk=uuid.UUID(str(key))).first()
    except ValueError:
        return None
