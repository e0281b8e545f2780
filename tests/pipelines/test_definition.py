"""The shape of a definition: names, references, what a step waits for, what is filled in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.checking import read
from pipelines.definition import MOST_INPUTS, MOST_STEPS, MOST_USES, Definition, Input, Step, asked, filled

GATE = {"name": "gate", "kind": "gate", "settings": {"condition": "1 < 2"}}


def whole(**changes: Any) -> dict[str, Any]:
    return {"name": "P", "steps": [GATE], **changes}


def with_step(**changes: Any) -> dict[str, Any]:
    return whole(steps=[{**GATE, **changes}])


def test_what_is_left_out_has_a_default() -> None:
    made = Definition.model_validate(whole())
    assert (made.schema_, made.description, made.inputs) == (1, "", {})
    step = made.steps[0]
    assert (step.label, step.uses, step.after, step.on_failure) == ("", {}, [], "stop")
    assert made.plain() == {"schema": 1, **whole()}, "and is left out again"


def test_a_title_is_the_label_or_the_name_in_words() -> None:
    assert Step(name="measure_ppo", kind="gate").title == "measure ppo"
    assert Step(name="measure_ppo", kind="gate", label="PPO").title == "PPO"


NAMES = {"a": True, "a1_b": True, "x" * 40: True, "x" * 41: False, "": False, "A": False, "1a": False, "_a": False,
         "a-b": False, "a.b": False, "a b": False, "ä": False, "a\n": False, "a\0": False, "../x": False}  # fmt: skip


@pytest.mark.parametrize(("name", "fits"), NAMES.items(), ids=[repr(name) for name in NAMES])
def test_a_name_is_a_plain_word(name: str, fits: bool) -> None:
    for raw in (with_step(name=name), whole(inputs={name: {"type": "model"}}), with_step(uses={name: "inputs.x"})):
        _, problems = read(raw)
        assert any(problem.code == "config.string_pattern_mismatch" for problem in problems) is not fits


@pytest.mark.parametrize(
    "reference", ["", "sft", "sft.", ".model", "sft.model.x", "sft.Model", "sft model", "${x}", 1, None]
)
def test_a_reference_names_a_step_and_an_output(reference: Any) -> None:
    _, problems = read(with_step(uses={"metrics": reference}))
    assert [problem.loc for problem in problems] == [("steps", 0, "uses", "metrics")]


@pytest.mark.parametrize("after", ["", "gate.succeeded", "gate.failed.failed", ".failed", "Gate", 3])
def test_after_names_a_step_or_its_failure(after: Any) -> None:
    _, problems = read(with_step(after=[after]))
    assert [problem.loc for problem in problems] == [("steps", 0, "after", 0)]


SHAPES: list[tuple[str, Any, tuple[str | int, ...], str]] = [
    ("not a mapping", [], (), "config.model_type"),
    ("nothing", None, (), "config.model_type"),
    ("a text", "name: x", (), "config.model_type"),
    ("no steps", {"name": "P"}, ("steps",), "config.missing"),
    ("an empty list", whole(steps=[]), ("steps",), "config.too_short"),
    ("no name", {"steps": [GATE]}, ("name",), "config.missing"),
    ("a blank name", whole(name="  "), ("name",), "config.string_too_short"),
    ("a long name", whole(name="x" * 81), ("name",), "config.string_too_long"),
    ("a number for a name", whole(name=7), ("name",), "config.string_type"),
    ("another schema", whole(schema=2), ("schema",), "config.literal_error"),
    ("an unknown key", whole(stages=[]), ("stages",), "config.unknown"),
    ("an unknown key of a step", with_step(wait=1), ("steps", 0, "wait"), "config.unknown"),
    ("an unknown key of an input", whole(inputs={"a": {"type": "model", "x": 1}}), ("inputs", "a", "x"),
     "config.unknown"),
    ("an unknown type", whole(inputs={"a": {"type": "file"}}), ("inputs", "a", "type"), "config.literal_error"),
    ("an endless default", whole(inputs={"a": {"type": "number", "default": float("inf")}}),
     ("inputs", "a", "default"), "config.finite_number"),
    ("no number for a default", whole(inputs={"a": {"type": "number", "default": float("nan")}}),
     ("inputs", "a", "default"), "config.finite_number"),
    ("an unknown way to fail", with_step(on_failure="retry"), ("steps", 0, "on_failure"), "config.literal_error"),
    ("settings that are a list", with_step(settings=[]), ("steps", 0, "settings"), "config.dict_type"),
    ("a step without a kind", whole(steps=[{"name": "a"}]), ("steps", 0, "kind"), "config.missing"),
    ("a step that is a text", whole(steps=["gate"]), ("steps", 0), "config.model_type"),
    ("10 000 steps", whole(steps=[{**GATE, "name": f"s{n}"} for n in range(10_000)]), (), "pipeline.large"),
    ("one step too many", whole(steps=[{**GATE, "name": f"s{n}"} for n in range(MOST_STEPS + 1)]), ("steps",),
     "config.too_long"),
    ("too many inputs", whole(inputs={f"i{n}": {"type": "model"} for n in range(MOST_INPUTS + 1)}), ("inputs",),
     "config.too_long"),
    ("too many figures", with_step(uses={f"u{n}": "gate.x" for n in range(MOST_USES + 1)}), ("steps", 0, "uses"),
     "config.too_long"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "loc", "code"), [pytest.param(*rest, id=name) for name, *rest in SHAPES])
def test_a_wrong_shape_has_a_place_and_a_sentence(raw: Any, loc: tuple[str | int, ...], code: str) -> None:
    definition, problems = read(raw)
    assert definition is None
    assert [(problem.loc, problem.code) for problem in problems] == [(loc, code)]
    assert problems[0].message.strip().endswith(".") and problems[0].hint


def test_what_a_step_waits_for_is_said_once() -> None:
    step = Step(name="x", kind="approve", uses={"model": "a.model", "metrics": "a.metrics", "baseline": "inputs.m"},
                after=["a", "b", "b.failed"])  # fmt: skip
    made = Definition(name="P", steps=[step])
    assert list(made.needs(step)) == [("a", "succeeded"), ("b", "succeeded"), ("b", "failed")]
    assert made.step("x") is made.steps[0]
    with pytest.raises(KeyError, match="y"):
        made.step("y")


def test_inputs_are_filled_in_wherever_they_stand() -> None:
    settings = {
        "iters": "${inputs.n}",
        "method": {"name": "ppo", "deep": ["${inputs.k}", "x"]},
        "alias": "a ${inputs.n}",
    }
    assert list(asked(settings)) == [(("iters",), "n"), (("method", "deep", 0), "k")]
    made = filled(settings, {"n": 3, "k": 0.5})
    assert made == {"iters": 3, "method": {"name": "ppo", "deep": [0.5, "x"]}, "alias": "a ${inputs.n}"}
    assert settings["iters"] == "${inputs.n}", "what was given stays as it was"
    with pytest.raises(KeyError, match="k"):
        filled(settings, {"n": 3})


@pytest.mark.parametrize(
    "text", ["${inputs.n}\n", " ${inputs.n}", "${inputs.N}", "$inputs.n", "${n}", "${inputs.n.x}", "${{inputs.n}}"]
)
def test_only_the_exact_form_is_filled_in(text: str) -> None:
    assert list(asked({"a": text})) == [] and filled({"a": text}, {"n": 1}) == {"a": text}


words = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=40)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
inputs = st.builds(
    Input,
    type=st.sampled_from(["model", "reward_model", "dataset", "number"]),
    label=texts,
    help=texts,
    formats=st.lists(texts, max_size=3),
    default=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
steps = st.builds(
    Step,
    name=words,
    kind=texts,
    label=texts,
    uses=st.dictionaries(words, st.tuples(words, words).map(".".join), max_size=3),
    settings=st.dictionaries(texts, values, max_size=3),
    after=st.lists(words | words.map(lambda word: f"{word}.failed"), max_size=3),
    on_failure=st.sampled_from(["stop", "go_on"]),
)
definitions = st.builds(
    Definition,
    name=texts.filter(lambda text: text.strip()),
    description=texts,
    inputs=st.dictionaries(words, inputs, max_size=3),
    steps=st.lists(steps, min_size=1, max_size=4),
)


@given(definitions)
def test_plain_values_mean_the_same(definition: Definition) -> None:
    assert Definition.model_validate(definition.plain()) == definition


@given(
    st.recursive(
        values,
        lambda inner: st.dictionaries(
            st.sampled_from(["name", "steps", "inputs", "schema", "kind", "uses", "after", "settings", "type"]),
            inner | st.lists(inner, max_size=2),
            max_size=5,
        ),
        max_leaves=12,
    )
)
def test_any_value_is_read_or_refused_in_words(raw: Any) -> None:
    definition, problems = read(raw)
    assert definition is not None or problems
    assert all(problem.code and problem.message for problem in problems)
