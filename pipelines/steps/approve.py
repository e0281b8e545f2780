"""A person decides. It waits without a slot and without a silent end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from pipelines.steps.step import Done, Kind, Port, Waits, Work
from training.engine.config.training import check
from training.engine.errors import ConfigError, Problem
from training.models import Job


class ApproveSettings(BaseModel):
    """Settings of an approval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = Field("Go on?", max_length=400, description="What the person is asked.")


class Approve(Kind):
    """See the module."""

    name: ClassVar[str] = "approve"
    label: ClassVar[str] = "Approval"
    text: ClassVar[str] = "Waits until a person says yes or no; nothing runs meanwhile."
    takes_figures: ClassVar[bool] = True

    def settings_schema(self) -> dict[str, Any]:
        return ApproveSettings.model_json_schema()

    def ports(self, settings: Mapping[str, Any]) -> Mapping[str, Port]:
        del settings
        return {
            "model": Port("model", required=False, text="the candidate"),
            "baseline": Port("model", required=False, text="what is in use"),
            "metrics": Port("metrics", required=False, text="figures to look at"),
        }

    def problems(self, settings: Mapping[str, Any]) -> list[Problem]:
        try:
            check(ApproveSettings, dict(settings))
        except ConfigError as error:
            return error.problems
        return []

    def whole(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return check(ApproveSettings, dict(settings)).model_dump(mode="json")

    def begin(self, work: Work) -> Job | Done | Waits:
        return Waits(check(ApproveSettings, dict(work.settings)).question)
