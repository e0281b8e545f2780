"""Every row format: its example, good rows, and bad rows with the codes of all their problems."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.engine.catalog.formats import FORMATS, Format
from training.engine.errors import DataError, Problem

U, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
S, T = {"role": "system", "content": "s"}, {"role": "tool", "content": "t"}
H, G = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
CHAT = {"messages": [U, A]}

GOOD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("chat", {"messages": [S, U, A, U, A], "id": 7}, {"messages": [S, U, A, U, A]}),
    ("chat", {"messages": [U, A, T, T, A]}, {"messages": [U, A, T, T, A]}),
    ("chat", {"conversations": [U, A]}, CHAT),
    ("chat", {"messages": json.dumps([U, A])}, CHAT),
    ("chat", {"messages": {"role": ["user", "assistant"], "content": ["q", "a"]}}, CHAT),
    ("chat", {"messages": [{"role": "developer", "content": "s"}, U, A]}, {"messages": [S, U, A]}),
    ("chat", {"messages": [{"role": "system", "content": ""}, U, A]}, {"messages": [{**S, "content": ""}, U, A]}),
    (
        "chat",
        {"messages": [U, {"role": "assistant", "content": [{"type": "text", "text": "a"}], "tool_calls": None}]},
        CHAT,
    ),
    ("sharegpt", {"conversations": [H, G], "system": "s"}, {"messages": [S, U, A]}),
    ("sharegpt", {"conversations": [H, G], "system": None}, CHAT),
    ("alpaca", {"instruction": "q", "output": "a"}, CHAT),
    ("alpaca", {"instruction": "q", "input": "i", "output": "a", "text": "x"},
     {"messages": [{**U, "content": "q\n\ni"}, A]}),
    ("alpaca", {"instruction": "q", "input": None, "output": "a", "system": "s"}, {"messages": [S, U, A]}),
    ("completion", {"prompt": " p ", "completion": "c\n"}, {"prompt": " p ", "completion": "c\n"}),
    ("completion", {"question": "p", "answer": "c"}, {"prompt": "p", "completion": "c"}),
    ("text", {"text": "one\ntwo", "meta": {}}, {"text": "one\ntwo"}),
]  # fmt: skip

BAD: list[tuple[str, dict[str, Any], list[str]]] = [
    ("chat", {}, ["missing_column"]),
    ("chat", {"messages": "hello"}, ["wrong_type"]),
    ("chat", {"messages": "[broken"}, ["wrong_type"]),
    ("chat", {"messages": []}, ["no_turns"]),
    ("chat", {"messages": [U] * 5000}, ["too_many_turns"]),
    ("chat", {"messages": ["hi"]}, ["wrong_type"]),
    ("chat", {"messages": [U]}, ["last_turn"]),
    ("chat", {"messages": [A]}, ["role_order"]),
    ("chat", {"messages": [U, U, A]}, ["role_order"]),
    ("chat", {"messages": [U, S, A]}, ["role_order", "role_order"]),
    ("chat", {"messages": [U, {"role": "robot", "content": "a"}]}, ["unknown_role"]),
    ("chat", {"messages": [U, {"role": 3, "content": "a"}]}, ["unknown_role"]),
    ("chat", {"messages": [{"role": "user", "content": " "}, {"role": "assistant"}]}, ["empty", "empty"]),
    ("chat", {"messages": [U, {"role": "assistant", "content": 3}]}, ["wrong_type"]),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "image"}]}, A]}, ["not_text"]),
    ("chat", {"messages": [U, {"role": "assistant", "content": None, "tool_calls": [{}]}]}, ["tools"]),
    ("chat", {"messages": [U, A], "tools": [{"name": "f"}]}, ["tools"]),
    ("chat", {"messages": [U, {"role": "assistant", "content": "a\0"}]}, ["nul_bytes"]),
    ("sharegpt", {"conversations": [H, {"from": "alien", "value": ""}]}, ["unknown_role", "empty"]),
    ("sharegpt", {"conversations": [H, G], "system": 3}, ["wrong_type"]),
    ("alpaca", {"instruction": "", "input": 3, "output": None}, ["empty", "wrong_type", "empty"]),
    ("alpaca", {"input": "i"}, ["missing_column", "missing_column"]),
    ("alpaca", {"instruction": "q", "output": "a", "history": [["x", "y"]]}, ["history"]),
    ("completion", {"prompt": "p"}, ["missing_column"]),
    ("completion", {"prompt": ["p"], "completion": ""}, ["wrong_type", "empty"]),
    ("text", {"text": ""}, ["empty"]),
    ("text", {"text": 3.5}, ["wrong_type"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "normal"), GOOD)
def test_good_row(name: str, row: dict[str, Any], normal: dict[str, Any]) -> None:
    assert FORMATS[name].normalise(row) == normal


@pytest.mark.parametrize(("name", "row", "codes"), BAD)
def test_bad_row_names_all_its_problems(name: str, row: dict[str, Any], codes: list[str]) -> None:
    problems = FORMATS[name].normalise(row)
    assert isinstance(problems, list)
    assert [p.code for p in problems] == [f"data.{code}" for code in codes]
    assert all(p.message.endswith(".") and p.hint.endswith(".") for p in problems)


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_example_is_good_and_recognised_as_itself(row: Format) -> None:
    assert isinstance(row.normalise(row.example), dict)
    found = FORMATS.recognise([row.example])
    assert found is not None
    assert found[0] is row


@pytest.mark.parametrize(("name", "row", "normal"), GOOD)
def test_normal_form_is_good_as_it_is(name: str, row: dict[str, Any], normal: dict[str, Any]) -> None:
    found = FORMATS.recognise([normal])
    assert found is not None
    assert found[0].normalise(normal) == normal


def test_alpaca_with_a_text_column_is_alpaca() -> None:
    found = FORMATS.recognise([{"instruction": "q", "input": "", "output": "a", "text": "q a"}])
    assert found is not None
    assert found[1] == "Reads as alpaca, because it has the columns `instruction` and `output`."


def test_unknown_format_is_named() -> None:
    with pytest.raises(DataError, match="There is no data format 'csv'"):
        FORMATS.named("csv")


_KEYS = st.sampled_from(
    ["messages", "conversations", "role", "content", "from", "value", "instruction", "input", "output", "prompt",
     "completion", "text", "system", "tools", "tool_calls", "type"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS | st.text(max_size=4), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(_KEYS, JSON, max_size=5))
def test_any_json_is_normalised_or_refused(row: dict[str, Any]) -> None:
    for known in FORMATS:
        known.recognise(row)
        found = known.normalise(row)
        if isinstance(found, list):
            assert found
            assert all(isinstance(problem, Problem) for problem in found)
        else:
            assert set(found) in ({"messages"}, {"prompt", "completion"}, {"text"})


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_TEXT, _TEXT), min_size=1, max_size=4))
def test_sharegpt_and_chat_say_the_same(pairs: list[tuple[str, str]]) -> None:
    shared = [turn for q, a in pairs for turn in ({"from": "human", "value": q}, {"from": "gpt", "value": a})]
    chat = [turn for q, a in pairs for turn in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]
    assert FORMATS["sharegpt"].normalise({"conversations": shared}) == FORMATS["chat"].normalise({"messages": chat})
