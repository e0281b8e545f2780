"""Optimizer presets: saved, changed, deleted."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Invalid, NotFound
from mlxplatform.core.models import AuditEvent
from training.engine.config.training import TrainSettings, check
from training.engine.errors import ConfigError, Problem
from training.models import OptimizerPreset

LONGEST_NAME = 80


def checked_preset(settings: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The settings of a preset with defaults filled in, and what is wrong with them."""
    problems = [
        Problem(
            (key[:60],),
            "preset.unknown",
            f"A preset holds no '{key[:60]}'.",
            f"It holds: {', '.join(OptimizerPreset.KEYS)}.",
        )
        for key in settings
        if key not in OptimizerPreset.KEYS
    ]
    try:
        known = {key: value for key, value in settings.items() if key in OptimizerPreset.KEYS}
        whole = check(TrainSettings, known).model_dump(mode="json")
    except ConfigError as error:
        return {}, problems + error.problems
    return {key: whole[key] for key in OptimizerPreset.KEYS}, problems


def _named(name: str) -> list[Problem]:
    if not name.strip():
        return [Problem(("name",), "name.missing", "The preset has no name.", "Give it one.")]
    if len(name.strip()) > LONGEST_NAME:
        text = f"The name has more than {LONGEST_NAME} characters."
        return [Problem(("name",), "name.too_long", text, "Shorten it.")]
    return []


def create_preset(user: Any, name: str, settings: dict[str, Any]) -> OptimizerPreset:
    """Save ``settings`` (keys: ``OptimizerPreset.KEYS``; what is left out has its default) under a new name.

    Raises Invalid with all problems, Forbidden.
    """
    require(user, Role.EDITOR)
    whole, problems = checked_preset(settings)
    if problems := _named(name) + problems:
        raise Invalid.of(problems)
    return _saved(user, OptimizerPreset(owner=user), "preset.create", name=name.strip(), settings=whole)


def change_preset(
    user: Any, preset: OptimizerPreset, *, name: str | None = None, settings: dict[str, Any] | None = None
) -> OptimizerPreset:
    """Give a preset another name, other settings, or both; ``settings`` replace the old ones as a whole."""
    require(user, Role.EDITOR)
    problems = _named(name) if name is not None else []
    columns: dict[str, Any] = {} if name is None else {"name": name.strip()}
    if settings is not None:
        columns["settings"], more = checked_preset(settings)
        problems += more
    if problems:
        raise Invalid.of(problems)
    return _saved(user, preset, "preset.change", **columns)


def _saved(user: Any, preset: OptimizerPreset, action: str, **columns: Any) -> OptimizerPreset:
    for column, value in columns.items():
        setattr(preset, column, value)
    preset.changed_at = timezone.now()
    try:
        with transaction.atomic():
            preset.save()
            AuditEvent.write(user, action, f"optimizer preset {preset.pk}", name=preset.name, changed=sorted(columns))
    except IntegrityError:
        text = f"There is a preset called '{preset.name}' already."
        raise Invalid.of([Problem(("name",), "preset.name_taken", text, "Choose another name.")]) from None
    return preset


def delete_preset(user: Any, preset: OptimizerPreset) -> None:
    """Delete it; jobs that were made with it keep their settings, and the audit trail keeps the preset's."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        AuditEvent.write(
            user, "preset.delete", f"optimizer preset {preset.pk}", name=preset.name, settings=preset.settings
        )
        preset.delete()


def find_preset(user: Any, key: Any) -> OptimizerPreset:
    """The preset, if ``user`` may see it. Raises NotFound."""
    found: OptimizerPreset | None = OptimizerPreset.objects.visible_to(user).filter(pk=key).first()
    if found is None:
        raise NotFound("preset.unknown", "There is no such preset.", "Look at the list of presets.")
    return found
