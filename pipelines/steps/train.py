"""A training with any method, as an ordinary job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ValidationError

from pipelines.definition import Type
from pipelines.steps.figures import of_version
from pipelines.steps.step import Done, Kind, Port, Waits, Work
from registry.models import ModelVersion
from training import services
from training.engine.catalog.methods import METHODS
from training.engine.config.training import TrainSettings, check
from training.engine.errors import ConfigError, Problem
from training.models import Job

REWARDS = "reward_model"
_TEXTS = {"teacher": "it learns what this one would say", REWARDS: "scores the answers"}


class Train(Kind):
    """See the module."""

    name: ClassVar[str] = "train"
    label: ClassVar[str] = "Train"
    text: ClassVar[str] = "Trains a model with any method; its best checkpoint becomes a version."
    reusable: ClassVar[bool] = True

    def settings_schema(self) -> dict[str, Any]:
        return TrainSettings.model_json_schema()

    def ports(self, settings: Mapping[str, Any]) -> Mapping[str, Port]:
        taken, needed = _others(settings)
        others = {
            role: Port("reward_model" if role == REWARDS else "model", required=role in needed, text=_TEXTS[role])
            for role in taken
        }
        return {"model": Port("model", text="trained"), "data": Port("dataset", text="to learn from"), **others}

    def gives(self, settings: Mapping[str, Any]) -> Mapping[str, Type]:
        made: Type = "reward_model" if _method(settings) == REWARDS else "model"
        return {made: made, "metrics": "metrics"}

    def problems(self, settings: Mapping[str, Any]) -> list[Problem]:
        try:
            check(TrainSettings, dict(settings))
        except ConfigError as error:
            return error.problems
        return []

    def whole(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return check(TrainSettings, dict(settings)).model_dump(mode="json")

    def begin(self, work: Work) -> Job | Done | Waits:
        others = {role: version.pk for role, version in work.inputs.items() if role not in ("model", "data")}
        return services.create_training(
            work.user,
            name=work.title,
            model_version_id=work.inputs["model"].pk,
            dataset_version_id=work.inputs["data"].pk,
            settings=dict(work.settings),
            others=others,
            idempotency_key=work.key,
        )

    def result(self, job: Job) -> Mapping[str, Any]:
        version = ModelVersion.objects.get(pk=job.result["model_version"])
        made = "reward_model" if version.is_reward_model and _method(job.settings) == REWARDS else "model"
        return {made: str(version.pk), "metrics": of_version(version)}


def _others(settings: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Roles of the further models that the method takes, and of those that it cannot do without."""
    name, given = _method(settings), settings.get("method")
    if name not in METHODS:
        return (), ()
    row: Any = METHODS[name].settings
    try:
        return row.takes, row.model_validate({"name": name, **(given if isinstance(given, dict) else {})}).needs
    except ValidationError:
        return row.takes, ()


def _method(settings: Mapping[str, Any]) -> str:
    found = settings.get("method", "sft")
    return str(found.get("name", "")) if isinstance(found, dict) else str(found)
