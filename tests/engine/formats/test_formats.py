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
B = {"role": "assistant", "content": "b"}
PAIR = {"prompt": [U], "chosen": "a", "rejected": "b"}
HUMAN = "\n\nHuman: q\n\nAssistant: a\n\nHuman: q\n\nAssistant:"
JUDGED = {"prompt": [U], "completion": "a", "label": True}

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
    ("preference", {"prompt": "q", "chosen": "a", "rejected": "b", "margin": None}, PAIR),
    ("preference", {"prompt": [U], "chosen": [A], "rejected": [B]}, PAIR),
    ("preference", {"prompt": "q", "prompt_id": "7", "chosen": [U, A], "rejected": [U, B], "messages": [U, A],
                    "score_chosen": 7.5, "score_rejected": 7}, {**PAIR, "margin": 0.5}),
    ("preference", {"chosen": [S, U, A, U, A], "rejected": [S, U, A, U, B]}, {**PAIR, "prompt": [S, U, A, U]}),
    ("preference", {"chosen": f"{HUMAN} a", "rejected": f"{HUMAN} b"}, {**PAIR, "prompt": [U, A, U]}),
    ("preference", {"prompt": HUMAN, "chosen": " a", "rejected": "b"}, {**PAIR, "prompt": [U, A, U], "chosen": " a"}),
    ("preference", {"system": "s", "prompt": "q", "chosen": "a", "rejected": "b"}, {**PAIR, "prompt": [S, U]}),
    ("preference", {"system": "s", "question": "q", "chosen": "a", "rejected": "b"}, {**PAIR, "prompt": [S, U]}),
    ("preference", {"instruction": "q", "input": "i", "chosen": "a", "rejected": "b"},
     {**PAIR, "prompt": [{**U, "content": "q\n\ni"}]}),
    ("preference", {"prompt": [H], "chosen": G, "rejected": {**G, "value": "b"}, "margin": "2"},
     {**PAIR, "margin": 2.0}),
    ("preference", {"prompt": json.dumps([U]), "chosen": "[1, 2]", "rejected": "b"}, {**PAIR, "chosen": "[1, 2]"}),
    ("preference", {"prompt": [U, A, T], "chosen": "a", "rejected": "b"}, {**PAIR, "prompt": [U, A, T]}),
    ("kto", {"prompt": "q", "completion": "a", "label": True}, JUDGED),
    ("kto", {"prompt": [U], "completion": [A], "label": "True"}, JUDGED),
    ("kto", {"prompt": "q", "response": "a", "label": 0}, {**JUDGED, "label": False}),
    ("kto", {"prompt": None, "completion": [U, A], "label": "0"}, {**JUDGED, "label": False}),
    ("prompts", {"prompt": "q"}, {"prompt": [U]}),
    ("prompts", {"prompt": [S, U], "answer": 42}, {"prompt": [S, U], "answer": "42"}),
    ("prompts", {"question": "q", "answer": "6 * 7\n#### 42"}, {"prompt": [U], "answer": "6 * 7\n#### 42"}),
    ("prompts", {"problem": "q", "solution": "a", "answer": None}, {"prompt": [U], "answer": "a"}),
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
    ("preference", {}, ["missing_column"] * 3),
    ("preference", {"chosen": "a", "rejected": "b"}, ["missing_column"]),
    ("preference", {**PAIR, "rejected": "a "}, ["same_answers"]),
    ("preference", {"prompt": "", "chosen": "", "rejected": 3}, ["empty", "wrong_type", "empty"]),
    ("preference", {"chosen": f"{HUMAN} a", "rejected": HUMAN}, ["empty"]),
    ("preference", {"chosen": [U, A], "rejected": [{**U, "content": "other"}, B]}, ["different_prompts"]),
    ("preference", {**PAIR, "chosen": [S, U, A], "rejected": [S, U, B]}, ["different_prompts"]),
    ("preference", {**PAIR, "prompt": [U, A]}, ["last_turn"]),
    ("preference", {"chosen": [A], "rejected": [U, A, U]}, ["last_turn", "last_turn"]),
    ("preference", {"prompt": [U], "chosen": [], "rejected": [{"role": "robot", "content": "b"}]},
     ["no_turns", "unknown_role"]),
    ("preference", {**PAIR, "margin": float("nan")}, ["bad_number"]),
    ("preference", {**PAIR, "margin": True}, ["bad_number"]),
    ("preference", {**PAIR, "margin": "much"}, ["bad_number"]),
    ("preference", {**PAIR, "margin": 1e300}, ["bad_number"]),
    ("preference", {**PAIR, "margin": -1}, ["negative_margin"]),
    ("preference", {**PAIR, "score_chosen": 3, "score_rejected": 4}, ["negative_margin"]),
    ("preference", {**PAIR, "score_chosen": [], "score_rejected": 10**400}, ["bad_number", "bad_number"]),
    ("preference", {**PAIR, "tools": [{}], "system": 3}, ["tools", "wrong_type"]),
    ("kto", {}, ["missing_column"] * 3),
    ("kto", {**JUDGED, "completion": " ", "label": "good"}, ["empty", "bad_label"]),
    ("kto", {**JUDGED, "label": None}, ["bad_label"]),
    ("kto", {**JUDGED, "label": 2}, ["bad_label"]),
    ("kto", {**JUDGED, "label": 0.5}, ["bad_label"]),
    ("prompts", {}, ["missing_column"]),
    ("prompts", {"prompt": " ", "answer": ""}, ["empty", "empty"]),
    ("prompts", {"prompt": 3, "answer": ["a"]}, ["wrong_type", "wrong_type"]),
    ("prompts", {"prompt": [U, A]}, ["last_turn"]),
    ("prompts", {"prompt": [A, U]}, ["role_order"]),
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


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "q", "chosen": [U, A], "rejected": [U, B], "messages": [U, A]}, "preference"),
        ({"prompt": "q", "completion": "a", "label": True}, "kto"),
        ({"prompt": "q", "completion": "a"}, "completion"),
        ({"question": "q", "answer": "#### 42"}, "completion"),
        ({"prompt": "q", "answer": "42"}, "prompts"),
        ({"prompt": "q", "prompt_id": "7", "messages": [U, A]}, "chat"),
        ({"prompt": "q", "text": "q a"}, "text"),
        ({"instruction": "q", "output": "a", "label": 1}, "alpaca"),
    ],
)
def test_rows_with_columns_of_several_formats(row: dict[str, Any], name: str) -> None:
    found = FORMATS.recognise([row])
    assert found is not None
    assert found[0].name == name


def test_the_first_turn_that_differs_is_named() -> None:
    found = FORMATS["preference"].normalise({"chosen": [U, A, U, A], "rejected": [U, B, U, B]})
    assert isinstance(found, list)
    assert (found[0].loc, found[0].message) == (
        ("rejected", 1),
        "`chosen` and `rejected` differ at turn 2, before the last one.",
    )


def test_unknown_format_is_named() -> None:
    with pytest.raises(DataError, match="There is no data format 'csv'"):
        FORMATS.named("csv")


SHAPES = (
    {"messages"}, {"prompt", "completion"}, {"text"}, {"prompt", "chosen", "rejected"},
    {"prompt", "completion", "label"}, {"prompt"},
)  # fmt: skip
_KEYS = st.sampled_from(
    ["messages", "conversations", "role", "content", "from", "value", "instruction", "input", "output", "prompt",
     "completion", "text", "system", "tools", "tool_calls", "type", "chosen", "rejected", "margin", "label", "answer"]
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
            assert set(found) - {"margin", "answer"} in SHAPES


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_TEXT, _TEXT), min_size=1, max_size=4))
def test_sharegpt_and_chat_say_the_same(pairs: list[tuple[str, str]]) -> None:
    shared = [turn for q, a in pairs for turn in ({"from": "human", "value": q}, {"from": "gpt", "value": a})]
    chat = [turn for q, a in pairs for turn in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]
    assert FORMATS["sharegpt"].normalise({"conversations": shared}) == FORMATS["chat"].normalise({"messages": chat})
