"""An address for each training method, ``/train/sft`` to ``/train/rlhf/ppo``, with its own schema of settings.

Addresses and schemas are made from the catalog of methods, so that a new method has its own by itself. What is
described is pydantic's schema of the settings; what is checked is the same
:func:`training.engine.config.training.check` that the form and ``/jobs`` go through, so that a mistake has the
same code and sentence everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Status
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from mlxplatform.core.errors import Invalid
from training import services
from training.engine.catalog.methods import METHODS
from training.engine.catalog.rows import Row
from training.engine.config.training import TrainSettings
from training.engine.errors import Problem
from training.schemas import JobOut, Key, Strict

router = Router(tags=["jobs"])
#: Families of methods whose addresses begin with ``rlhf/``, where people look for them.
RLHF = frozenset({"Preference", "Reward", "Reinforcement"})


class Described:
    """Takes any object, and is described as ``model``: its faults are told by our own check, not by ninja's."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model

    def __get_pydantic_json_schema__(self, _schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        whole: Any = self.model.__pydantic_core_schema__
        inner = whole["schema"] if whole["type"] == "definitions" else whole
        more = whole["definitions"] if whole["type"] == "definitions" else []
        # Under a name of its own, so that the description holds it once for all addresses.
        ref = f"{self.model.__module__}.{self.model.__qualname__}:{id(self.model)}"
        named = core_schema.definitions_schema(
            core_schema.definition_reference_schema(ref), [{**inner, "ref": ref}, *more]
        )
        return handler(named)


def only(name: str, about: str, keys: Iterable[str]) -> type[BaseModel]:
    """A part of a training's settings as a model of its own, for descriptions."""
    fields: dict[str, Any] = {}
    for key in keys:
        field = TrainSettings.model_fields[key]
        kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        fields[key] = (kind, field)
    return create_model(name, __config__=ConfigDict(extra="forbid"), __doc__=about, **fields)


SETTINGS = only(
    "SettingsBesideMethod",
    "Everything about a training that is the same for all methods.",
    [name for name in TrainSettings.model_fields if name != "method"],
)


def address(row: Row) -> str:
    """Where a method is asked for: ``sft``, ``rlhf/reward-model``."""
    kind: Any = row.settings
    return ("rlhf/" if kind.group in RLHF else "") + row.name.replace("_", "-")


def body(row: Row) -> type[Strict]:
    """What the address of a method takes."""
    kind: Any = row.settings
    what = {
        "teacher": "The model version to learn from.",
        "reward_model": "A model version with a score head.",
    }
    others: dict[str, Any] = {
        f"{role}_version_id": (UUID | None, Field(None, description=what[role])) for role in kind.takes
    }
    made: type[Strict] = create_model(
        f"{row.settings.__name__}In",
        __base__=Strict,
        __doc__=f"A training with {row.label} to start. What is left out has its default.",
        model_version_id=(UUID, Field(description="The model version to begin with.")),
        dataset_version_id=(UUID, Field(description=f"Rows of one of these forms: {', '.join(kind.reads)}.")),
        name=(str, Field("", description="Made up of model and data if empty.")),
        method=(Annotated[dict[str, Any], Described(kind)], Field({}, description="The method's own settings.")),
        settings=(Annotated[dict[str, Any], Described(SETTINGS)], Field({}, description="All other settings.")),
        **others,
        priority=(int, Field(0, description="Higher starts first, from -100 to 100.")),
        parent=(UUID | None, Field(None, description="The job that this one goes on from.")),
        force_memory=(bool, Field(False, description="Start it though its plan of memory says that it does not fit.")),
    )  # fmt: skip
    return made


def _settings(row: Row, asked: dict[str, Any]) -> dict[str, Any]:
    """The settings as ``/jobs`` takes them. Raises Invalid where another method is named."""
    inside = asked["settings"].get("method")
    method = {"name": inside} if isinstance(inside, str) else inside if isinstance(inside, dict) else {}
    named = {str(part["name"]) for part in (method, asked["method"]) if "name" in part}
    if named - {row.name}:
        text = f"This address trains with '{row.name}' only."
        raise Invalid.of([Problem(("method",), "method.unknown", text, "Use POST /api/v1/jobs.")])
    return {**asked["settings"], "method": {**method, **asked["method"], "name": row.name}}


def _under_its_name(problem: Problem) -> Problem:
    """A problem of a further model at the field that names it here."""
    at = problem.loc[:1] == ("others",) and len(problem.loc) == 2
    return replace(problem, loc=(f"{problem.loc[1]}_version_id",)) if at else problem


def _operation(row: Row) -> Callable[..., Any]:
    kind: Any = row.settings
    schema = body(row)

    def train(request: HttpRequest, body: Any, idempotency_key: str = Key) -> Any:
        asked = body.model_dump()
        others = {role: key for role in kind.takes if (key := asked.pop(f"{role}_version_id"))}
        method = _settings(row, asked)
        asked.pop("method")
        wanted = {**asked, "settings": method, "others": others}
        try:
            return Status(201, services.create_training(request.user, **wanted, idempotency_key=idempotency_key))
        except Invalid as refusal:
            raise Invalid.of([_under_its_name(problem) for problem in refusal.problems]) from None

    train.__annotations__["body"] = schema
    return train


for _row in METHODS:
    router.post(
        f"/{address(_row)}",
        response={201: JobOut},
        operation_id=f"train_{_row.name}",
        summary=_row.label,
        description=f"Queue a training. {_row.summary}",
    )(_operation(_row))
