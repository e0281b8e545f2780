"""The JSON Schema of a definition, with the settings of every kind of step, for editors and programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipelines.catalog import STEP_KINDS
from pipelines.definition import FILLED, Definition
from pipelines.steps.step import Kind

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFS = "#/$defs/"
#: Where a setting takes a number, an input of the run may fill it in.
BY_INPUT = {"type": "string", "pattern": f"^{FILLED.pattern}$"}
ABOUT = frozenset({"title", "description", "default", "examples", "level", "unit"})


def schema() -> dict[str, Any]:
    """The schema, draft 2020-12. Its ``Step`` is one of the kinds, each with its own settings."""
    made: dict[str, Any] = Definition.model_json_schema(by_alias=True)
    definitions = made["$defs"]
    step = definitions.pop("Step")
    for kind in STEP_KINDS:
        settings = kind.settings_schema()
        definitions |= {
            f"{kind.name}.{name}": _fillable(_renamed(inner, kind)) for name, inner in settings.pop("$defs", {}).items()
        }
        definitions[f"step.{kind.name}"] = _step(step, kind, _fillable(_renamed(settings, kind)))
    definitions["Step"] = {"anyOf": [{"$ref": f"{REFS}step.{kind.name}"} for kind in STEP_KINDS]}
    return {"$schema": DIALECT, **made}


def _step(step: dict[str, Any], kind: Kind, settings: dict[str, Any]) -> dict[str, Any]:
    """The schema of a step of this kind."""
    own = {"kind": {"const": kind.name, "description": kind.text}, "settings": settings}
    required = [*step["required"], *(["settings"] if settings.get("required") else [])]
    return {
        **step,
        "title": kind.label,
        "description": kind.text,
        "properties": {**step["properties"], **own},
        "required": required,
    }


def _renamed(node: Any, kind: Kind) -> Any:
    """References of a kind's settings under names that no other kind has."""

    def at(value: Any) -> Any:
        own = isinstance(value, str) and value.startswith(REFS)
        return f"{REFS}{kind.name}.{value.removeprefix(REFS)}" if own else value

    return _everywhere(node, at)


def _fillable(node: Any) -> Any:
    """Numbers may be filled in by an input; a row of a catalog may stand as its bare name."""

    def at(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value.get("type") in ("number", "integer"):
            about = {key: word for key, word in value.items() if key in ABOUT}
            return {**about, "anyOf": [{key: word for key, word in value.items() if key not in ABOUT}, BY_INPUT]}
        if "discriminator" in value:
            return {"anyOf": [value, {"enum": list(value["discriminator"]["mapping"])}]}
        return value

    return _everywhere(node, at)


def _everywhere(node: Any, change: Callable[[Any], Any]) -> Any:
    """``change`` on every value, the inner ones first."""
    if isinstance(node, dict):
        return change({key: _everywhere(value, change) for key, value in node.items()})
    if isinstance(node, list):
        return [_everywhere(value, change) for value in node]
    return change(node)
