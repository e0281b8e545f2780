"""Definitions as YAML: read with bounds, so that a hostile file costs nothing; written so that people can read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from mlxplatform.core.errors import Invalid
from pipelines.definition import Definition
from training.engine.errors import Problem

LARGEST, MOST_EVENTS, DEEPEST = 256 << 10, 20_000, 24  # bytes, pieces, levels


def load(text: str) -> Any:
    """Plain values out of YAML: no anchors, no tags, nothing large or deep. Raises Invalid with line and column."""
    size = len(text.encode(errors="surrogatepass"))
    if size > LARGEST:
        raise _fault(f"The file has {size >> 10} KiB; at most {LARGEST >> 10} are read.", "Is it the right file?")
    try:
        _look(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"Line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _fault(f"{place}{error.problem or error.context or 'this is no YAML'}.", "Mend the line.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _fault(f"This is no YAML: {str(error)[:200]}.", "Mend the file.") from None


class _Loader(yaml.SafeLoader):
    """One that does not silently take the last of two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' stands there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _look(text: str) -> None:
    """Refuse what only serves to overwhelm a reader, before anything is built."""
    depth = 0
    for n, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        mark = event.start_mark
        line = mark.line + 1 if mark else 0
        if getattr(event, "anchor", None):
            raise _fault(f"Line {line}: anchors and aliases are not read.", "Write it out.")
        if getattr(event, "tag", None):
            raise _fault(f"Line {line}: tags are not read.", "Take it out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or n > MOST_EVENTS:
            what = f"more than {DEEPEST} levels" if depth > DEEPEST else f"more than {MOST_EVENTS} pieces"
            raise _fault(f"Line {line}: {what}.", "A pipeline is smaller.")


def _fault(message: str, hint: str) -> Invalid:
    return Invalid.of([Problem((), "pipeline.yaml", message, hint)])


def dump(definition: Definition) -> str:
    """The definition as YAML, in the order of the schema; :func:`load` reads it back."""
    plain = definition.plain()
    ordered = {key: plain[key] for key in ("schema", "name", "description", "inputs", "steps") if key in plain}
    return yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """One that escapes the rarer ends of lines, which a reader takes for plain ones."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    rare = not {"\x85", "\u2028", "\u2029"}.isdisjoint(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if rare else None)


_Dumper.add_representer(str, _text)


def lines(text: str, places: Iterable[Sequence[str | int]]) -> list[int | None]:
    """For each place the line, from 1, on which it begins in the YAML ``text``; its nearest holder's if it is missing.

    None: nothing of it stands there, or the text is no YAML.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        root = None
    return [_line(root, place) for place in places]


def _line(node: Any, place: Sequence[str | int]) -> int | None:
    found = None
    for part in place:
        below = _below(node, part)
        if below is None:
            break
        found, node = below
    return found


def _below(node: Any, part: str | int) -> tuple[int, Any] | None:
    """The line of a key or of an item, and its value. Steps are known by their number or by their name."""
    if isinstance(node, yaml.SequenceNode):
        items = enumerate(node.value)
        return next(((one.start_mark.line + 1, one) for n, one in items if part in (n, _name(one))), None)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((key.start_mark.line + 1, value) for key, value in pairs if key.value == part), None)


def _name(node: Any) -> str | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((str(value.value) for key, value in pairs if key.value == "name"), None)
