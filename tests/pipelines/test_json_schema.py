"""The JSON Schema of a definition takes what we take."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipelines import files
from pipelines.catalog import STEP_KINDS, TEMPLATES
from pipelines.json_schema import REFS, schema
from tests.pipelines.definitions import ALONE, MEASURED
from training.engine.json_schema import fits


def fitting(value: Any, rule: Any, whole: dict[str, Any]) -> bool:
    """Whether ``value`` fits, references followed as the value goes down and patterns looked at."""
    if "$ref" in rule:
        return fitting(value, whole["$defs"][rule["$ref"].removeprefix(REFS)], whole)
    if "anyOf" in rule and not any(fitting(value, one, whole) for one in rule["anyOf"]):
        return False
    if "oneOf" in rule and sum(fitting(value, one, whole) for one in rule["oneOf"]) != 1:
        return False
    inner = {"properties", "patternProperties", "additionalProperties", "items", "anyOf", "oneOf", "discriminator"}
    if not fits(value, {key: word for key, word in rule.items() if key not in inner}):
        return False
    if isinstance(value, str) and "pattern" in rule and not re.search(rule["pattern"], value):
        return False
    if isinstance(value, list) and isinstance(rule.get("items"), dict):
        return all(fitting(one, rule["items"], whole) for one in value)
    if isinstance(value, dict):
        return all(_key_fits(key, one, rule, whole) for key, one in value.items())
    return True


def _key_fits(key: str, value: Any, rule: dict[str, Any], whole: dict[str, Any]) -> bool:
    if key in rule.get("properties", {}):
        return fitting(value, rule["properties"][key], whole)
    for pattern, inner in rule.get("patternProperties", {}).items():
        if re.search(pattern, key):
            return fitting(value, inner, whole)
    return rule.get("additionalProperties", True) is not False


def test_every_reference_leads_somewhere() -> None:
    made = schema()
    asked: set[str] = set()

    def look(node: Any) -> None:
        if isinstance(node, dict):
            asked.update([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(made)
    assert asked and {name.removeprefix(REFS) for name in asked} <= made["$defs"].keys()


@pytest.mark.parametrize("name", TEMPLATES.names)
def test_every_template_fits(name: str) -> None:
    made = schema()
    assert fitting(files.load(TEMPLATES[name].path.read_text()), made, made)


@pytest.mark.parametrize("definition", [MEASURED, ALONE], ids=lambda d: d["name"])
def test_a_definition_fits_and_a_broken_one_does_not(definition: dict[str, Any]) -> None:
    made = schema()
    assert fitting(definition, made, made)
    (first, *rest) = definition["steps"]
    for wrong in ({"kind": "dance"}, {"settings": {"unknown": 1}}, {"after": "gate"}, {"name": "No Name"}, {"x": 1}):
        assert not fitting({**definition, "steps": [{**first, **wrong}, *rest]}, made, made), wrong


def test_every_kind_tells_its_settings() -> None:
    made = schema()["$defs"]
    for kind in STEP_KINDS:
        own = made[f"step.{kind.name}"]["properties"]
        assert own["kind"]["const"] == kind.name
        assert own["settings"]["properties"].keys() == kind.settings_schema()["properties"].keys()
