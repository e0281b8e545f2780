"""Whether definitions hold together: every problem with its place and its sentence, all of them at once."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pipelines import checking
from pipelines.catalog import STEP_KINDS, TEMPLATES
from pipelines.definition import Definition
from training.engine.errors import Problem

INPUTS = {
    "model": {"type": "model"},
    "judge": {"type": "reward_model"},
    "data": {"type": "dataset"},
    "updates": {"type": "number", "default": 10},
    "length": {"type": "number"},
}
SFT: dict[str, Any] = {"name": "sft", "kind": "train", "uses": {"model": "inputs.model", "data": "inputs.data"}}
GATE: dict[str, Any] = {"name": "gate", "kind": "gate", "settings": {"condition": "1 < 2"}}


def found(*steps: dict[str, Any], inputs: dict[str, Any] | None = None) -> list[Problem]:
    raw = {"name": "P", "inputs": INPUTS if inputs is None else inputs, "steps": list(steps)}
    return checking.read(raw)[1]


def step(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**base, **changes}


def test_a_right_definition_has_no_problems() -> None:
    assert found(SFT, step(GATE, uses={"metrics": "sft.metrics"})) == []


CASES: list[tuple[str, list[dict[str, Any]], tuple[str | int, ...], str, str]] = [
    ("an unknown kind", [step(SFT, kind="dance")], ("steps", 0, "kind"), "step.kind",
     "There is no kind of step 'dance'."),
    ("a name twice", [SFT, SFT], ("steps", 1, "name"), "step.name",
     "The name 'sft' is taken by an earlier step."),
    ("the name of the inputs", [step(GATE, name="inputs")], ("steps", 0, "name"), "step.name",
     "The name 'inputs' stands for the run's inputs."),
    ("a missing port", [step(SFT, uses={"model": "inputs.model"})], ("steps", 0, "uses", "data"), "port.missing",
     "'sft' has no data: to learn from."),
    ("a teacher is missing", [step(SFT, settings={"method": "distillation"})], ("steps", 0, "uses", "teacher"),
     "port.missing", "'sft' has no teacher: it learns what this one would say."),
    ("a reward model is missing", [step(SFT, settings={"method": {"name": "ppo"}})],
     ("steps", 0, "uses", "reward_model"), "port.missing", "'sft' has no reward_model: scores the answers."),
    ("an unknown port", [step(SFT, uses={**SFT["uses"], "teacher": "inputs.model"})], ("steps", 0, "uses", "teacher"),
     "port.unknown", "A step of the kind 'train' uses no 'teacher'."),
    ("an unknown input", [step(SFT, uses={**SFT["uses"], "model": "inputs.base"})], ("steps", 0, "uses", "model"),
     "reference.unknown", "'sft' uses inputs.base, and there is no such thing."),
    ("an unknown step", [step(GATE, uses={"metrics": "sft.metrics"})], ("steps", 0, "uses", "metrics"),
     "reference.unknown", "'gate' uses sft.metrics, and there is no such thing."),
    ("an unknown output", [SFT, step(GATE, uses={"metrics": "sft.loss"})], ("steps", 1, "uses", "metrics"),
     "reference.unknown", "'gate' uses sft.loss, and there is no such thing."),
    ("a model for data", [step(SFT, uses={"model": "inputs.model", "data": "inputs.model"})],
     ("steps", 0, "uses", "data"), "reference.type", "'sft' needs a data set as data; inputs.model is a model."),
    ("a model for a reward model", [step(SFT, name="ppo", settings={"method": "ppo"},
                                         uses={**SFT["uses"], "reward_model": "inputs.model"})],
     ("steps", 0, "uses", "reward_model"), "reference.type",
     "'ppo' needs a reward model as reward_model; inputs.model is a model."),
    ("a model for figures", [step(GATE, uses={"metrics": "inputs.model"})], ("steps", 0, "uses", "metrics"),
     "reference.type", "'gate' needs a set of figures as metrics; inputs.model is a model."),
    ("figures of another name", [step(GATE, uses={"before": "inputs.data"})], ("steps", 0, "uses", "before"),
     "reference.type", "'gate' needs a set of figures as before; inputs.data is a data set."),
    ("a wrong setting", [step(SFT, settings={"learning_rate": 7})], ("steps", 0, "settings", "learning_rate"),
     "config.less_than_equal",
     "learning_rate: Input should be less than or equal to 1 (given: 7)."),
    ("a wrong setting of a method", [step(SFT, settings={"method": {"name": "dpo", "beta": -1}})],
     ("steps", 0, "settings", "method", "beta"), "config.greater_than",
     "method.beta: Input should be greater than 0 (given: -1)."),
    ("an unknown setting", [step(SFT, settings={"rate": 1})], ("steps", 0, "settings", "rate"), "config.unknown",
     "rate: There is no such setting."),
    ("an unknown method", [step(SFT, settings={"method": "magic"})], ("steps", 0, "settings", "method"),
     "method.unknown", "There is no method 'magic'."),
    ("a setting of an evaluation", [{"name": "m", "kind": "evaluate", "uses": SFT["uses"], "settings": {"rows": -1}}],
     ("steps", 0, "settings", "rows"), "config.greater_than_equal",
     "rows: Input should be greater than or equal to 0 (given: -1)."),
    ("a question that is a list", [{"name": "a", "kind": "approve", "settings": {"question": []}}],
     ("steps", 0, "settings", "question"), "config.string_type", "question: Input should be a valid string."),
    ("a path as an alias", [{"name": "r", "kind": "register", "uses": {"model": "inputs.model"},
                             "settings": {"alias": "../x"}}], ("steps", 0, "settings", "alias"),
     "config.string_pattern_mismatch",
     "alias: String should match pattern '^[a-z][a-z0-9-]{0,39}$' (given: '../x')."),
    ("no condition", [{"name": "gate", "kind": "gate"}], ("steps", 0, "settings", "condition"), "config.missing",
     "condition: This is needed."),
    ("code for a condition", [step(GATE, settings={"condition": "exit()"})], ("steps", 0, "settings", "condition"),
     "condition.malformed", "At character 5 of 'exit()': After 'exit' a comparison such as < or >= is missing."),
    ("an input that is not there", [step(SFT, settings={"iters": "${inputs.steps}"})],
     ("steps", 0, "settings", "iters"), "input.unknown",
     "'sft' asks for the number inputs.steps, and there is none."),
    ("an input that is no number", [step(SFT, settings={"iters": "${inputs.model}"})],
     ("steps", 0, "settings", "iters"), "input.unknown",
     "'sft' asks for the number inputs.model, and there is none."),
    ("after a step that is not there", [step(GATE, after=["sft"])], ("steps", 0, "after", 0), "step.unknown",
     "'gate' waits for 'sft', and there is no such step."),
    ("after an unknown failure", [GATE, step(GATE, name="b", after=["gate", "sft.failed"])],
     ("steps", 1, "after", 1), "step.unknown", "'b' waits for 'sft', and there is no such step."),
    ("after success and failure", [GATE, step(GATE, name="b", after=["gate", "gate.failed"])],
     ("steps", 1, "after"), "step.never", "'b' waits for 'gate' to succeed and to fail, so it would never begin."),
    ("figures of a failure", [SFT, step(GATE, uses={"metrics": "sft.metrics"}, after=["sft.failed"])],
     ("steps", 1, "after"), "step.never", "'gate' waits for 'sft' to succeed and to fail, so it would never begin."),
    ("a step after itself", [step(GATE, after=["gate"])], ("steps", 0, "after"), "pipeline.circle",
     "'gate' waits for itself."),
    ("its own result", [step(SFT, uses={**SFT["uses"], "model": "sft.model"})], ("steps", 0, "after"),
     "pipeline.circle", "'sft' waits for itself."),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "loc", "code", "message"), [pytest.param(*rest, id=name) for name, *rest in CASES])
def test_a_problem(steps: list[dict[str, Any]], loc: tuple[str | int, ...], code: str, message: str) -> None:
    problems = found(*steps)
    assert [(problem.loc, problem.code, problem.message) for problem in problems] == [(loc, code, message)]
    assert problems[0].hint.endswith(".") or "Write it like" in problems[0].hint


INPUT_CASES: list[tuple[dict[str, Any], tuple[str | int, ...], str, str]] = [
    ({"type": "model", "formats": ["chat"]}, ("inputs", "x", "formats", 0), "input.formats",
     "inputs.x is no data set, so it has no form of rows."),
    ({"type": "dataset", "formats": ["chat", "chats"]}, ("inputs", "x", "formats", 1), "input.formats",
     "There is no form of rows 'chats'."),
    ({"type": "dataset", "default": 3}, ("inputs", "x", "default"), "input.default",
     "inputs.x is no number, so it has no default."),
]  # fmt: skip


@pytest.mark.parametrize(("given", "loc", "code", "message"), INPUT_CASES, ids=[case[2] for case in INPUT_CASES])
def test_an_input_has_only_what_fits_it(
    given: dict[str, Any], loc: tuple[str | int, ...], code: str, message: str
) -> None:
    problems = found(GATE, inputs={"x": given})
    assert [(problem.loc, problem.code, problem.message) for problem in problems] == [(loc, code, message)]


def test_hints_name_what_would_fit() -> None:
    later = step(SFT, name="later", uses={"model": "nothing.model", "data": "inputs.model"})
    unknown, wrong = found(SFT, later)
    assert unknown.hint == "There are: inputs.model, inputs.judge, sft.model."
    assert wrong.hint == "There are: inputs.data."
    (alone,) = found(step(GATE, uses={"metrics": "sft.metrics"}))
    assert alone.hint == "Add a step that makes one."
    (empty,) = found(
        step(SFT, uses={"model": "inputs.model", "data": "inputs.model"}), inputs={"model": INPUTS["model"]}
    )
    assert empty.hint == "Add an input of the type dataset."
    (kind,) = found(step(GATE, kind="dance"))
    assert kind.hint == f"Known are: {', '.join(STEP_KINDS.names)}."


def test_a_reward_model_is_a_model_but_not_the_other_way_round() -> None:
    judge = step(SFT, name="judge", settings={"method": "reward_model"})
    assert [(p.loc, p.code) for p in found(judge, step(SFT, uses={**SFT["uses"], "model": "judge.model"}))] == [
        (("steps", 1, "uses", "model"), "reference.unknown")
    ]
    assert found(judge, step(SFT, uses={**SFT["uses"], "model": "judge.reward_model"})) == []
    ppo = step(SFT, name="ppo", settings={"method": "ppo"}, uses={**SFT["uses"], "reward_model": "judge.reward_model"})
    assert found(judge, ppo) == []


def circles(*steps: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    return [(problem.loc, problem.message) for problem in found(*steps) if problem.code == "pipeline.circle"]


def after(name: str, *before: str) -> dict[str, Any]:
    return step(GATE, name=name, after=list(before))


def test_a_circle_names_its_steps_and_not_those_behind_it() -> None:
    steps = [after("begin"), after("a", "begin", "c"), after("b", "a"), after("c", "b"), after("behind", "c")]
    assert circles(*steps) == [(("steps", 1, "after"), "These steps wait for each other: a, b, c.")]


def test_each_circle_is_said_once() -> None:
    steps = [after("a", "b"), after("b", "a"), after("x", "y.failed", "a"), after("y", "x"), after("z", "z")]
    assert circles(*steps) == [
        (("steps", 0, "after"), "These steps wait for each other: a, b."),
        (("steps", 2, "after"), "These steps wait for each other: x, y."),
        (("steps", 4, "after"), "'z' waits for itself."),
    ]


def test_a_circle_through_uses_is_one() -> None:
    back = step(SFT, uses={**SFT["uses"], "model": "dpo.model"})
    dpo = step(SFT, name="dpo", uses={**SFT["uses"], "model": "sft.model"})
    assert circles(back, dpo) == [(("steps", 0, "after"), "These steps wait for each other: dpo, sft.")]


def test_the_longest_chain_and_the_widest_fan_are_no_circle() -> None:
    chain = [after(f"s{n}", *([f"s{n - 1}"] if n else [])) for n in range(64)]
    assert found(*reversed(chain)) == []
    fan = [after("s0"), *(after(f"s{n}", "s0") for n in range(1, 63)), after("end", *(f"s{n}" for n in range(63)))]
    assert found(*fan) == []


def test_all_problems_come_at_once() -> None:
    wrong = {
        "name": "sft",
        "kind": "train",
        "uses": {"model": "inputs.data", "extra": "inputs.model"},
        "settings": {"iters": "${inputs.nothing}", "learning_rate": 7, "optimizer": "magic"},
        "after": ["nobody", "sft"],
    }
    codes = [problem.code for problem in found(GATE, wrong, step(GATE, settings={"condition": ""}))]
    assert sorted(codes) == sorted([
        "step.name", "config.less_than_equal", "optimizer.unknown", "port.missing", "reference.type", "port.unknown",
        "input.unknown", "step.unknown", "pipeline.circle", "condition.malformed",
    ])  # fmt: skip
    assert codes == [problem.code for problem in found(GATE, wrong, step(GATE, settings={"condition": ""}))]


def test_a_default_is_tried_and_a_number_without_one_may_become_anything() -> None:
    inputs = {**INPUTS, "updates": {"type": "number", "default": 0}}
    (problem,) = found(step(SFT, settings={"iters": "${inputs.updates}"}), inputs=inputs)
    assert (problem.loc, problem.code) == (("steps", 0, "settings", "iters"), "config.greater_than_equal")
    open_ = {"max_seq_length": "${inputs.length}", "method": {"name": "dpo", "beta": "${inputs.length}"}}
    assert found(step(SFT, settings=open_)) == [], "1 would be too short a length, but nobody said 1"
    (other,) = found(step(SFT, settings={**open_, "batch_size": 0}))
    assert other.loc == ("steps", 0, "settings", "batch_size")


def test_nothing_deep_or_large_is_looked_into() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    (problem,) = found(step(GATE, settings={"condition": deep}))
    assert (problem.code, problem.message) == ("pipeline.large", "The definition has more than 24 levels.")
    (problem,) = found(step(GATE, settings={"x": [0] * 20_001}))
    assert (problem.code, problem.message) == ("pipeline.large", "The definition has more than 20000 values.")


def test_text_that_no_file_can_hold_is_refused() -> None:
    for changes in ({"settings": {"condition": "a\ud800 < 2"}}, {"label": "\ud800"}, {"settings": {"\ud800": 1}}):
        definition, problems = checking.read({"name": "P", "steps": [step(GATE, **changes)]})
        assert problems, changes
        del definition


def test_what_could_go_into_a_port() -> None:
    definition = Definition.model_validate({"name": "P", "inputs": INPUTS, "steps": [SFT, step(GATE, after=["sft"])]})
    assert checking.offers(definition, definition.steps[1], "model") == ["inputs.model", "inputs.judge", "sft.model"]
    assert checking.offers(definition, definition.steps[0], "model") == ["inputs.model", "inputs.judge"]
    assert checking.offers(definition, definition.steps[1], "metrics") == ["sft.metrics"]
    assert checking.type_of(definition, "inputs.judge") == "reward_model"
    assert checking.type_of(definition, "gate.model") is None


@pytest.mark.parametrize("template", TEMPLATES, ids=TEMPLATES.names)
def test_a_recipe_is_free_of_problems_and_everything_in_it_has_a_label(template: Any) -> None:
    definition, problems = checking.read(yaml.safe_load(template.path.read_text(encoding="utf-8")))
    assert problems == [] and definition is not None
    assert definition.name == template.label and definition.description
    assert all(given.label for given in definition.inputs.values())
    assert all(one.label for one in definition.steps)
    assert len({one.label for one in definition.steps}) >= len(definition.steps) - 1, "branches may share one"
    read = {reference for one in definition.steps for reference in one.uses.values()}
    numbers = {name for name, given in definition.inputs.items() if given.type == "number"}
    assert {f"inputs.{name}" for name in definition.inputs.keys() - numbers} <= read, "every choice is of use"


def test_there_is_a_recipe_for_each_template_and_none_beside() -> None:
    folder = TEMPLATES["chatbot"].path.parent
    assert sorted(path.stem for path in folder.iterdir()) == sorted(TEMPLATES.names)
