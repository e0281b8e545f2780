"""An evaluation of a model on a data set, as an ordinary job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pipelines.definition import Type
from pipelines.steps.figures import plain
from pipelines.steps.step import Done, Kind, Port, Waits, Work
from training import services
from training.engine.config.evaluations import EvaluateSettings
from training.engine.config.training import check
from training.engine.errors import ConfigError, Problem
from training.models import Evaluation, Job


class Evaluate(Kind):
    """See the module."""

    name: ClassVar[str] = "evaluate"
    label: ClassVar[str] = "Evaluate"
    text: ClassVar[str] = "Measures a model on held-out rows: loss, answers by rules, reward, win rate."
    reusable: ClassVar[bool] = True

    def settings_schema(self) -> dict[str, Any]:
        return EvaluateSettings.model_json_schema()

    def ports(self, settings: Mapping[str, Any]) -> Mapping[str, Port]:
        del settings
        return {
            "model": Port("model", text="measured"),
            "data": Port("dataset", text="rows to measure on"),
            "reward_model": Port("reward_model", required=False, text="scores the answers"),
            "baseline": Port("model", required=False, text="to compare with"),
        }

    def gives(self, settings: Mapping[str, Any]) -> Mapping[str, Type]:
        del settings
        return {"metrics": "metrics"}

    def problems(self, settings: Mapping[str, Any]) -> list[Problem]:
        try:
            check(EvaluateSettings, dict(settings))
        except ConfigError as error:
            return error.problems
        return []

    def whole(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return check(EvaluateSettings, dict(settings)).model_dump(mode="json")

    def begin(self, work: Work) -> Job | Done | Waits:
        reward, baseline = work.inputs.get("reward_model"), work.inputs.get("baseline")
        return services.create_evaluation(
            work.user,
            name=work.title,
            model_version_id=work.inputs["model"].pk,
            dataset_version_id=work.inputs["data"].pk,
            settings=dict(work.settings),
            reward_version_id=reward.pk if reward else None,
            baseline_version_id=baseline.pk if baseline else None,
            idempotency_key=work.key,
        )

    def result(self, job: Job) -> Mapping[str, Any]:
        return {"metrics": plain(Evaluation.objects.get(job=job).values)}
