"""The bounded JSON Schema: what fits, what does not, and which schemas are refused."""

from __future__ import annotations

from typing import Any

import pytest

from training.engine.json_schema import faults, fits


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, 3.0, 3.5),
        ({"type": "integer"}, 10**400, True),
        ({"type": ["string", "null"]}, None, 1),
        ({"type": "number", "minimum": 1, "exclusiveMaximum": 2}, 1, 2),
        ({"minLength": 2, "maxLength": 3}, "ab", "a"),
        ({"minItems": 1, "items": {"type": "string"}}, ["a"], [1]),
        ({"enum": ["a", 1]}, 1, True),
        ({"const": {"a": [1]}}, {"a": [1.0]}, {"a": [2]}),
        ({"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"a": "x", "b": 1}, {"b": 1}),
        ({"properties": {"a": True}, "additionalProperties": False}, {"a": 1}, {"b": 1}),
        ({"additionalProperties": {"type": "boolean"}, "maxProperties": 1}, {"a": True}, {"a": 1}),
        ({"anyOf": [{"const": 1}, {"const": 2}]}, 2, 3),
        ({"oneOf": [{"minimum": 1}, {"maximum": 3}]}, 4, 2),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2, 4),
        ({"properties": {"a": False}}, {}, {"a": 1}),
    ],
)
def test_what_fits(schema: dict[str, Any], good: Any, bad: Any) -> None:
    assert faults(schema) == []
    assert fits(good, schema) and not fits(bad, schema)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ([], "schema is no object"),
        ({"type": "text"}, "schema.type is none of object"),
        ({"type": []}, "schema.type is none of"),
        ({"pattern": "a+"}, "'pattern', which is not checked here"),
        ({"properties": {"a": {"$ref": "#"}}}, "schema.properties.a has '$ref'"),
        ({"items": 3}, "schema.items is no object"),
        ({"required": "a"}, "no list of names"),
        ({"enum": []}, "no list with something in it"),
        ({"minimum": True}, "schema.minimum is no number"),
        ({"properties": []}, "schema.properties is no object"),
    ],
)
def test_faults_are_named(schema: Any, words: str) -> None:
    assert any(words in fault for fault in faults(schema)), faults(schema)


def test_a_schema_is_bounded_in_depth_and_size() -> None:
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"items": deep}
    assert "nested deeper" in faults(deep)[0]
    assert "more than" in faults({"anyOf": [{"title": "x", "type": "null"}] * 3000})[0]


def test_words_that_only_describe_are_read_over() -> None:
    assert faults({"title": "T", "description": "D", "$schema": "x", "default": 1}) == []
