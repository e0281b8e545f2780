"""A condition on figures: what follows begins only if it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from pipelines.expressions import Compared, Condition, Malformed
from pipelines.steps.step import Done, Kind, Port, Waits, Work
from training.engine.config.training import check
from training.engine.errors import ConfigError, Problem
from training.models import Job


class GateSettings(BaseModel):
    """Settings of a gate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    condition: str = Field(max_length=500, description="Such as: val_loss < 2.1 and win_rate >= 0.55")


class Gate(Kind):
    """See the module."""

    name: ClassVar[str] = "gate"
    label: ClassVar[str] = "Gate"
    text: ClassVar[str] = "Goes on only if figures of earlier steps are good enough."
    takes_figures: ClassVar[bool] = True

    def settings_schema(self) -> dict[str, Any]:
        return GateSettings.model_json_schema()

    def ports(self, settings: Mapping[str, Any]) -> Mapping[str, Port]:
        del settings
        return {"metrics": Port("metrics", required=False, text="figures, by their own names")}

    def problems(self, settings: Mapping[str, Any]) -> list[Problem]:
        try:
            Condition(check(GateSettings, dict(settings)).condition)
        except ConfigError as error:
            return error.problems
        except Malformed as error:
            return [error.problem(("condition",))]
        return []

    def whole(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return check(GateSettings, dict(settings)).model_dump(mode="json")

    def begin(self, work: Work) -> Job | Done | Waits:
        condition = Condition(str(work.settings["condition"]))
        figures = dict(_named(work.inputs))
        if missing := sorted(condition.names - figures.keys()):
            known = ", ".join(sorted(figures)) or "none"
            return Done(
                False, f"There is no figure {', '.join(missing)}. There are: {known}.", details={"passed": False}
            )
        holds, seen = condition.holds(figures)
        lines = [_line(one) for one in seen]
        words = "Passed" if holds else "Not passed"
        return Done(
            holds,
            f"{words}: {'; '.join(str(line['says']) for line in lines)}.",
            details={"passed": holds, "condition": condition.text, "comparisons": lines},
        )


def _named(inputs: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Figures of the port ``metrics`` by their names, those of other ports with the port's name before them."""
    for port, figures in inputs.items():
        for name, value in figures.items():
            if port == "metrics":
                yield name, value
            yield f"{port}.{name}", value


def _line(one: Compared) -> dict[str, Any]:
    return {
        "text": one.text,
        "left": one.left,
        "right": one.right,
        "holds": one.holds,
        "says": f"{one.left:.4g} against {one.right:.4g} ({one.text})",
    }
