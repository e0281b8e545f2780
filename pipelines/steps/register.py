"""Points an alias at what was made, so that people and programs find it by a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from pipelines.definition import Type
from pipelines.steps.step import Done, Kind, Port, Waits, Work
from registry.aliases import set_alias
from training.engine.config.training import check
from training.engine.errors import ConfigError, Problem
from training.models import Job


class RegisterSettings(BaseModel):
    """Settings of a registration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alias: str = Field("champion", pattern=r"^[a-z][a-z0-9-]{0,39}$", description="The name that will point at it.")


class Register(Kind):
    """See the module."""

    name: ClassVar[str] = "register"
    label: ClassVar[str] = "Register"
    text: ClassVar[str] = "Points an alias such as champion at the model that was made."

    def settings_schema(self) -> dict[str, Any]:
        return RegisterSettings.model_json_schema()

    def ports(self, settings: Mapping[str, Any]) -> Mapping[str, Port]:
        del settings
        return {"model": Port("model", text="the version to name")}

    def gives(self, settings: Mapping[str, Any]) -> Mapping[str, Type]:
        del settings
        return {"model": "model"}

    def problems(self, settings: Mapping[str, Any]) -> list[Problem]:
        try:
            check(RegisterSettings, dict(settings))
        except ConfigError as error:
            return error.problems
        return []

    def whole(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return check(RegisterSettings, dict(settings)).model_dump(mode="json")

    def begin(self, work: Work) -> Job | Done | Waits:
        version, alias = work.inputs["model"], check(RegisterSettings, dict(work.settings)).alias
        set_alias(work.user, version, alias)
        return Done(message=f"{alias} points at {version}.", outputs={"model": str(version.pk)})
