"""What the form of the editor says is what it was filled from, and nothing typed is lost."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines import checking, services
from pipelines.catalog import TEMPLATES
from pipelines.definition import Definition
from pipelines.drafts import Draft, InputDraft, StepDraft, blank


def fields(draft: Draft) -> dict[str, str]:
    """What a browser would post."""
    post = {"name": draft.name, "description": draft.description}
    post |= {"inputs": str(len(draft.inputs)), "steps": str(len(draft.steps))}
    for n, one in enumerate(draft.inputs):
        post |= {f"i{n}-{key}": getattr(one, key) for key in InputDraft.__slots__}
    for n, step in enumerate(draft.steps):
        post |= {f"s{n}-{key}": getattr(step, key) for key in StepDraft.__slots__ if key != "uses"}
        post |= {f"s{n}-uses-{port}": reference for port, reference in step.uses.items()}
    return {key: text.replace("\n", "\r\n") for key, text in post.items()}


@pytest.mark.parametrize("name", TEMPLATES.names)
def test_a_definition_comes_back_from_the_form_as_it_was(name: str) -> None:
    definition = services.template_definition(name)
    raw, problems = Draft.posted(fields(Draft.of(definition))).raw()
    assert problems == []
    assert checking.read(raw) == (definition, [])


def test_odd_settings_survive_the_form() -> None:
    settings: dict[str, Any] = {"a b": [1, {"c": None}], "d": "yes", "e": "1", "f": "x: y # z", "g": "two\nlines"}
    settings |= {"h": {}, "i": [], "j": 1e-5, "k": True, "l": "${inputs.n}", "m": "{a, b}", "n": "ünï"}
    step = {"name": "odd", "kind": "gone", "settings": settings, "on_failure": "go_on", "after": ["x.failed"]}
    definition = Definition.model_validate({"name": "Odd", "steps": [step]})
    raw, problems = Draft.posted(fields(Draft.of(definition))).raw()
    assert problems == [] and Definition.model_validate(raw) == definition


def test_the_first_draft_holds_together_once_it_has_a_name() -> None:
    draft = blank()
    draft.name = "Mine"
    assert checking.read(draft.raw()[0])[1] == []


@pytest.mark.parametrize(
    ("action", "names"),
    [
        ("add-step", ["a", "b", "step_1"]),
        ("remove-step:0", ["b"]),
        ("up-step:1", ["b", "a"]),
        ("down-step:0", ["b", "a"]),
        ("up-step:0", ["a", "b"]),
        ("down-step:1", ["a", "b"]),
        ("remove-step:7", ["a", "b"]),
        ("remove-step:-1", ["a", "b"]),
        ("nonsense", ["a", "b"]),
    ],
)
def test_steps_are_added_moved_and_removed(action: str, names: list[str]) -> None:
    draft = Draft(steps=[StepDraft("a"), StepDraft("b")])
    draft.act(action)
    assert [step.name for step in draft.steps] == names


def test_inputs_are_added_and_removed() -> None:
    draft = blank()
    draft.act("add-input")
    draft.act("remove-input:0")
    assert [one.name for one in draft.inputs] == ["data", "input_1"]


@pytest.mark.parametrize(
    ("settings", "code"), [("iters: [", "pipeline.yaml"), ("just words", "settings.shape"), ("1: 2", "settings.shape")]
)
def test_settings_that_cannot_be_read_are_told_at_their_step(settings: str, code: str) -> None:
    _, problems = Draft(steps=[StepDraft("a"), StepDraft("b", settings=settings)]).raw()
    assert [(problem.loc, problem.code) for problem in problems] == [(("steps", 1, "settings"), code)]


def test_a_line_of_figures_without_a_name_is_told() -> None:
    _, problems = Draft(steps=[StepDraft("g", "gate", figures="dpo: dpo.metrics\nnothing")]).raw()
    assert [(problem.loc, problem.message) for problem in problems] == [
        (("steps", 0, "uses"), "Line 2: 'nothing' names no figures.")
    ]


def test_two_inputs_of_one_name_are_told() -> None:
    _, problems = Draft(inputs=[InputDraft("model"), InputDraft("model")]).raw()
    assert [problem.code for problem in problems] == ["input.twice"]


def test_only_what_fits_is_offered() -> None:
    draft = Draft.of(services.template_definition("aligned_model"))
    ports = {port["name"]: port["offers"] for port in draft.ports(3)}
    assert ports["reward_model"] == ["reward.reward_model"]
    assert ports["data"] == ["inputs.data", "inputs.pairs"]
    assert "inputs.model" in ports["model"] and "ppo.model" not in ports["model"]
    assert "reward.metrics" in draft.figures(2) and draft.figures(0) == []


@pytest.mark.parametrize("count", ["-1", "x", "99999", "\u0663"])
def test_a_strange_number_of_steps_is_no_number(count: str) -> None:
    assert Draft.posted({"steps": count}).steps == [] or count == "\u0663"
