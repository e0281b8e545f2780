"""Definitions as YAML: what is refused, where and why, and that nothing is lost on the way out and in."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings

from mlxplatform.core.errors import Invalid
from pipelines import files
from pipelines.catalog import TEMPLATES
from pipelines.definition import Definition
from pipelines.services import parsed
from tests.pipelines.test_definition import definitions

GOOD = "name: P\nsteps:\n  - {name: gate, kind: gate, settings: {condition: 1 < 2}}\n"


def refused(text: str) -> str:
    """The sentence with which it is refused, without having cost anything."""
    begun = time.monotonic()
    with pytest.raises(Invalid) as caught:
        files.load(text)
    assert time.monotonic() - begun < 5, "a hostile file costs nothing"
    (problem,) = caught.value.problems
    assert problem.code == "pipeline.yaml" and problem.loc == () and problem.hint.endswith((".", "?"))
    return problem.message


def bomb() -> str:
    """A billion laughs."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


WRONG = {
    "an anchors bomb": (bomb(), "Line 1: anchors and aliases are not read."),
    "an alias": ("name: x\nsteps: *steps", "Line 2: anchors and aliases are not read."),
    "an anchor nobody uses": ("name: P\nsteps: &s []", "Line 2: anchors and aliases are not read."),
    "a tag": ("name: !!python/object/apply:os.system [ls]", "Line 1: tags are not read."),
    "a tag of one's own": ("name: P\nsteps: !steps []", "Line 2: tags are not read."),
    "a plain tag": ("name: !!str 7", "Line 1: tags are not read."),
    "a bracket that stays open": ("name: [1, 2\nsteps: 3", "Line 2, column 6:"),
    "a tab": ("name: P\nsteps:\n\t- a", "Line 3, column 1: found character '\\t' that cannot start any token."),
    "a wrong indent": ("name: P\n steps: []", "Line 2, column 7: mapping values are not allowed here."),
    "a quote that stays open": ('name: "P\nsteps: []', "found unexpected end of stream"),
    "a key twice": ("name: P\nsteps: []\nsteps: [1]", "Line 3, column 1: 'steps' stands there twice."),
    "a key twice within": ("steps:\n  - {name: a, name: b}", "Line 2, column 15: 'name' stands there twice."),
    "two documents": ("name: P\n---\nname: Q", "Line 2, column 1:"),
    "a list as a key": ("[1, 2]: 3", "Line 1, column 1: found unhashable key."),
    "a mapping as a key": ("{a: 1}: 3", "Line 1, column 1: found unhashable key."),
    "a zero byte": ("name: P\0", "This is no YAML: unacceptable character #x0000"),
    "half a character": ("name: \ud800", "This is no YAML: unacceptable character #xd800"),
    "a day that is none": ("name: 2026-13-45", "This is no YAML: month must be in 1..12."),
    "an endless number": ("x: " + "9" * 10_000, "This is no YAML: Exceeds the limit"),
    "too deep, in flow": ("[" * 100_000, "Line 1: more than 24 levels."),
    "too deep, in blocks": ("\n".join("  " * n + "a:" for n in range(100)), "more than 24 levels."),
    "too many pieces": ("[" + "1," * 30_000 + "]", "Line 1: more than 20000 pieces."),
    "too large": ("# " + "x" * (300 << 10), "The file has 300 KiB; at most 256 are read."),
    "10 000 steps": ("name: P\nsteps:\n" + "  - {name: a, kind: b}\n" * 10_000, "more than 20000 pieces."),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_is_refused_has_a_line_and_a_sentence(text: str, message: str) -> None:
    assert message in refused(text)


def test_plain_yaml_and_json_are_read() -> None:
    assert files.load(GOOD)["steps"][0]["settings"] == {"condition": "1 < 2"}
    assert files.load('{"name": "P", "steps": [{"name": "a", "kind": "gate"}]}')["steps"][0]["kind"] == "gate"
    assert files.load("") is None
    assert parsed(GOOD).steps[0].name == "gate"


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b", "7", "null", "2026-11-23"])
def test_yaml_that_is_no_definition_is_refused_by_its_shape(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parsed(text)
    assert [problem.code for problem in caught.value.problems] == ["config.model_type"]


def test_a_date_for_a_name_is_refused_in_words() -> None:
    with pytest.raises(Invalid) as caught:
        parsed(GOOD.replace("name: P", "name: 2026-11-23"))
    assert [(problem.loc, problem.code) for problem in caught.value.problems] == [(("name",), "config.string_type")]


def test_the_line_of_a_place() -> None:
    text = "name: P\nsteps:\n  - name: a\n    kind: gate\n  - name: b\n    kind: dance\n"
    places = [("steps", 1, "kind"), ("steps", 1, "settings", "x"), ("nothing",)]
    assert files.lines(text, places) == [6, 5, None], "what is missing: where it should stand"
    assert files.lines("a: [", [("a",)]) == [None]


@pytest.mark.parametrize("name", TEMPLATES.names)
def test_a_template_goes_out_and_in(name: str) -> None:
    definition = parsed(TEMPLATES[name].path.read_text(encoding="utf-8"))
    text = files.dump(definition)
    assert parsed(text) == definition
    assert files.dump(parsed(text)) == text
    assert text.index("schema:") < text.index("name:") < text.index("inputs:") < text.index("steps:")


@given(definitions)
@settings(deadline=None)
def test_any_definition_goes_out_and_in(definition: Definition) -> None:
    text = files.dump(definition)
    assert Definition.model_validate(files.load(text)) == definition
    assert "&" not in text.splitlines()[0]
