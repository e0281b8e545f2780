"""A bounded part of JSON Schema (draft 2020-12): whether a value fits, in time linear in value times schema.

No references and no patterns, so that no schema and no answer can keep the engine busy. Words that only
describe are read over; every other unknown word is a fault, because reading over it would let wrong answers pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

DEPTH = 16
MOST = 2000  # words of a schema, with those of the schemas in it
DESCRIBE = frozenset({"$schema", "$id", "$comment", "title", "description", "default", "examples"})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "number": _is_number,
    "integer": lambda v: _is_number(v) and (isinstance(v, int) or v.is_integer()),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
_BOUNDS: dict[str, tuple[type | tuple[type, ...], Callable[[Any, Any], bool]]] = {
    "minimum": ((int, float), lambda v, bound: v >= bound),
    "maximum": ((int, float), lambda v, bound: v <= bound),
    "exclusiveMinimum": ((int, float), lambda v, bound: v > bound),
    "exclusiveMaximum": ((int, float), lambda v, bound: v < bound),
    "minLength": (str, lambda v, bound: len(v) >= bound),
    "maxLength": (str, lambda v, bound: len(v) <= bound),
    "minItems": (list, lambda v, bound: len(v) >= bound),
    "maxItems": (list, lambda v, bound: len(v) <= bound),
    "minProperties": (dict, lambda v, bound: len(v) >= bound),
    "maxProperties": (dict, lambda v, bound: len(v) <= bound),
}
_SEVERAL = {"anyOf": any, "allOf": all, "oneOf": lambda fits: sum(fits) == 1}
WORDS = frozenset(
    {"type", "enum", "const", "properties", "required", "additionalProperties", "items", *_BOUNDS, *_SEVERAL}
)


def faults(schema: Any) -> list[str]:
    """What is wrong with ``schema``, in half sentences; at most five. Empty: :func:`fits` can use it."""
    found: list[str] = []
    count = [0]
    for fault in _faults(schema, "schema", 0, count):
        found.append(fault)
        if len(found) == 5:
            break
    return found


def fits(value: Any, schema: Any) -> bool:
    """Whether ``value``, as json.loads makes it, fits ``schema``, which has no faults."""
    if isinstance(schema, bool):
        return schema
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(TYPES[kind](value) for kind in kinds):
        return False
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        return False
    if "const" in schema and not _same(value, schema["const"]):
        return False
    for word, (kind, good) in _BOUNDS.items():
        if word in schema and isinstance(value, kind) and not isinstance(value, bool):
            if not good(value, schema[word]):
                return False
    for word, together in _SEVERAL.items():
        if word in schema and not together([fits(value, one) for one in schema[word]]):
            return False
    if isinstance(value, dict):
        return _object_fits(value, schema)
    return not isinstance(value, list) or all(fits(one, schema.get("items", True)) for one in value)


def _object_fits(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    return all(name in value for name in schema.get("required", ())) and all(
        fits(part, known.get(name, others)) for name, part in value.items()
    )


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON is: 1 is 1.0, and not true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _faults(schema: Any, where: str, depth: int, count: list[int]) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"{where} is no object"
        return
    count[0] += len(schema)
    if depth > DEPTH or count[0] > MOST:
        yield f"{where} is nested deeper than {DEPTH}, or the schema has more than {MOST} words"
        return
    for word, value in schema.items():
        if word in DESCRIBE:
            continue
        if word not in WORDS:
            yield f"{where} has '{word[:40]}', which is not checked here"
        else:
            yield from _wrong_value(word, value, f"{where}.{word}")
            for name, part in _parts(word, value):
                yield from _faults(part, f"{where}.{word}{name}", depth + 1, count)


def _wrong_value(word: str, value: Any, where: str) -> Iterator[str]:
    """Of a known word that does not hold schemas."""
    if word == "type":
        kinds = value if isinstance(value, list) else [value]
        if not kinds or not all(isinstance(kind, str) and kind in TYPES for kind in kinds):
            yield f"{where} is none of {', '.join(TYPES)}"
    elif word == "required" and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        yield f"{where} is no list of names"
    elif word in ("enum", *_SEVERAL) and not (isinstance(value, list) and value):
        yield f"{where} is no list with something in it"
    elif word == "properties" and not isinstance(value, dict):
        yield f"{where} is no object"
    elif word in _BOUNDS and (not _is_number(value) or not math.isfinite(float(value))):
        yield f"{where} is no number"


def _parts(word: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The schemas in the value of a word."""
    if word == "properties" and isinstance(value, dict):
        yield from ((f".{name[:40]}", part) for name, part in value.items())
    elif word in _SEVERAL and isinstance(value, list):
        yield from ((f"[{i}]", part) for i, part in enumerate(value))
    elif word in ("items", "additionalProperties"):
        yield "", value
