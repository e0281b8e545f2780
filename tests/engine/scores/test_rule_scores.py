"""Rules by hand: what they pay for, what they refuse, and that none of them can be kept busy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from training.engine.catalog.rules import RULES, Rule, RuleSettings, names_of
from training.engine.errors import ConfigError, DataError
from training.engine.rules import regex
from training.engine.rules.exact_answer import boxed, last_number, number
from training.engine.scores.rule_scores import Rules

READ: TypeAdapter[RuleSettings] = TypeAdapter(Rule)
NEEDED = {"regex": {"pattern": "yes"}, "python_function": {"module": "mine.py"}}


def value(line: str, answer: str, reference: str | None = None, tokens: int = 1) -> float:
    return Rules.of([READ.validate_python(line)]).score([], answer, reference, tokens)[0]


def refused(raw: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        READ.validate_python(raw)
    return str(caught.value)


@pytest.mark.parametrize("row", RULES, ids=lambda row: row.name)
def test_every_rule_is_written_as_a_line_and_read_again(row: Any) -> None:
    made = READ.validate_python({"name": row.name, "weight": 0.5, **NEEDED.get(row.name, {})})
    assert READ.validate_python(str(made)) == made
    assert READ.validate_python(READ.dump_python(made, mode="json")) == made
    assert len(row.summary) > 20
    for name, field in row.settings.model_fields.items():
        assert name == "name" or (field.title and field.description and field.description.endswith(".")), name


@pytest.mark.parametrize(
    ("line", "answer", "reference", "wanted"),
    [
        ("exact_answer", "She has 40 + 2 = 42.\n#### 42", "40 + 2 = 42\n#### 42", 1),
        ("exact_answer", "so it is \\boxed{\\frac{1}{2}}.", "0.5", 1),
        ("exact_answer", "First 3, then 1,000.", "1000", 1),
        ("exact_answer", "It is $1,000.00!", "1000", 1),
        ("exact_answer", "First 42, then 3.", "42", 0),
        ("exact_answer", "paris ", "Paris", 1),
        ("exact_answer ignore_case=off", "paris", "Paris", 0),
        ("exact_answer", "It is Paris.", "Paris", 0),
        ("exact_answer extract=last_line ignore_punctuation=on", "Well\n\nParis!", "Paris.", 1),
        ("exact_answer extract=marked", "42", "42", 0),
        ("exact_answer extract=boxed", "\\boxed{41} and \\boxed{42}", "#### 42", 1),
        ("exact_answer extract=all numbers=off", "42.0", "42", 0),
        ("exact_answer", "", "42", 0),
    ],
)
def test_exact_answer(line: str, answer: str, reference: str, wanted: float) -> None:
    assert value(line, answer, reference) == wanted


def test_numbers_are_compared_exactly() -> None:
    assert number("1e2") == number("100") == number(" $100.00 ") == number("100%")
    assert number("−3") == number("-3.0") == number("-$3")
    assert number("\\dfrac{1}{3}") == number("1/3") != number("0.333333333333")
    assert number("1/0") is None and number("") is None and number("1e99999") is None and number("a") is None
    assert last_number("between 3 and 1,234.5 of them") == "1,234.5" and last_number("none") is None
    assert boxed("\\boxed{x^{2}} .") == "x^{2}" and boxed("\\boxed{never closed") is None


def test_an_exact_answer_needs_a_reference() -> None:
    with pytest.raises(DataError, match="no reference answer"):
        value("exact_answer", "42")
    assert Rules.of([READ.validate_python("exact_answer")]).needs_reference


@pytest.mark.parametrize(
    ("line", "answer", "wanted"),
    [
        (r"regex pattern='\bno\b'", "oh no!", 1),
        (r"regex pattern='\bno\b'", "nothing", 0),
        ("regex pattern=yes whole=on ignore_case=on", "YES", 1),
        ("regex pattern=yes whole=on", "yes.", 0),
        ("json_schema", '{"a": 1}', 1),
        ("json_schema", "no json", 0),
        ("json_schema", "Here:\n```json\n[1, 2]\n```\nDone.", 1),
        ("json_schema fenced=off", "```json\n[1]\n```", 0),
        ("""json_schema definition='{"required": ["a"], "type": "object"}'""", '{"b": 1}', 0),
        ("json_schema", "NaN", 0),
        ("json_schema", "[" * 100_000, 0),
        ("format", "<think>hm</think> 42", 1),
        ("format", "<think></think> 42", 0),
        ("format", "<think>hm</think><think>hm</think>", 0),
        ("format", "42 <think>hm</think>", 0),
        ("format outside=any", "42 <think>hm</think>", 1),
        ("format tags=think,answer outside=none", "<think>hm</think>\n<answer>42</answer>", 1),
        ("format tags=think,answer outside=none", "<answer>42</answer><think>hm</think>", 0),
        ("format tags=think,answer outside=none", "<think>hm</think><answer>42</answer> more", 0),
    ],
)
def test_form_of_an_answer(line: str, answer: str, wanted: float) -> None:
    assert value(line, answer) == wanted


@pytest.mark.parametrize(("tokens", "wanted"), [(1, 0.5), (2, 1), (8, 1), (9, 0.75), (11, 0.25), (12, 0), (40, 0)])
def test_length_falls_to_zero_over_its_soft_edge(tokens: int, wanted: float) -> None:
    edge = 3 if tokens > 2 else 1
    assert value(f"length at_least=2 at_most=8 soft={edge}", "any", tokens=tokens) == wanted


def test_no_pattern_keeps_the_engine_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "SECONDS", 0.2)
    rules = Rules.of([READ.validate_python("regex pattern='(a|aa)+$'")])
    since = time.monotonic()
    assert rules.score([], "a" * 5000 + "b", None, 1)[0] == 0
    assert time.monotonic() - since < 5
    assert rules.slow == {"regex": 1}


def test_the_sum_is_weighted_and_a_second_rule_of_a_kind_has_a_name() -> None:
    lines = ["regex pattern=a weight=2", "length at_most=4 weight=0.5", "regex pattern=b weight=-1"]
    settings = [READ.validate_python(line) for line in lines]
    assert names_of(settings) == ["regex", "length", "regex_2"]
    assert Rules.of(settings).score([], "ab", None, 3) == (1.5, {"regex": 1.0, "length": 1.0, "regex_2": 1.0})


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("praise", "There is no rule 'praise'."),
        ("length 7", "'7' is no setting=value"),
        ("regex pattern='(' ", "no regular expression"),
        ("regex pattern='((a{1000}){1000}){1000}'", "more than 100000"),
        ("regex pattern='never closed", "cannot be read"),
        ("""json_schema definition='{"$ref": "#"}'""", "which is not checked here"),
        ("json_schema definition=nonsense", "this is no JSON"),
        ("length at_least=9 at_most=8", "at_most is less than at_least, 9"),
        ("format tags=a,a", "a tag stands there twice"),
        ("exact_answer weight=nan", "finite number"),
        ("python_function module=../evil.py", "String should match pattern"),
        ({"name": "length", "longest": 3}, "Extra inputs"),
    ],
)
def test_bad_rules_are_named(raw: Any, words: str) -> None:
    assert words in refused(raw)


# -- functions of a person's own ---------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLXP_HOME", str(tmp_path))
    monkeypatch.setenv("MLXP_REWARD_MODULES", "other.py, mine.py")
    path = tmp_path / "rewards" / "mine.py"
    path.parent.mkdir()
    path.write_text("def reward(prompt, answer, reference):\n    return len(answer) / len(prompt)\n")
    path.chmod(0o600)
    return path


def code(line: str) -> str:
    with pytest.raises((ConfigError, DataError)) as caught:
        value(line, "four")
    return caught.value.code


def test_a_listed_function_scores(mine: Path) -> None:
    rules = Rules.of([READ.validate_python("python_function module=mine.py")])
    assert rules.score([{"role": "user", "content": "Count!"}] * 2, "four", None, 1)[0] == 2.0


def test_what_is_not_listed_is_not_run(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLXP_REWARD_MODULES")
    mine.write_text("raise SystemExit")
    assert code("python_function module=mine.py") == "rule.module_not_listed"


def test_a_module_is_a_plain_file_that_only_its_owner_may_change(mine: Path) -> None:
    assert code("python_function module=other.py") == "rule.module_missing"
    (mine.parent / "other.py").symlink_to(mine)
    assert code("python_function module=other.py") == "rule.module_missing"
    mine.chmod(0o666)
    assert code("python_function module=mine.py") == "rule.module_writable"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("reward = 3", "rule.no_function"),
        ("import nothing_like_it", "rule.module_broken"),
        ("def reward(*_): return 'good'", "rule.no_number"),
        ("def reward(*_): return float('nan')", "rule.no_number"),
        ("def reward(*_): return 1 / 0", "rule.function_failed"),
    ],
)
def test_faults_of_a_function_are_named(mine: Path, text: str, wanted: str) -> None:
    mine.write_text(text)
    assert code("python_function module=mine.py") == wanted
