"""Which tokens are trained, with templates of every habit, and ids equal to stock mlx-lm's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.tuner import datasets as stock
from transformers import AutoTokenizer

from tests.fakes import tiny
from training.engine.errors import DataError, ModelError
from training.engine.models import tokenizer
from training.engine.models.tokenizer import Tokenizer
from training.engine.rows import masks

U, U2 = {"role": "user", "content": "hi"}, {"role": "user", "content": "and?"}
A, A2 = {"role": "assistant", "content": "the answer"}, {"role": "assistant", "content": " bye\n"}
S = {"role": "system", "content": "be kind"}
TALK = {"messages": [S, U, A, U2, A2]}

_TURN = "'<|im_start|>' + m.role + '\n' + "
# Takes the thoughts out of past answers and puts empty ones into the last.
THINKS = (
    "{% for m in messages %}{% set c = m.content %}"
    "{% if m.role == 'assistant' %}{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ " + _TURN + "('<think>\n\n</think>\n\n' if m.role == 'assistant' and loop.last else '') + c + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Opens the prompt with a tag that written answers lack.
OPENS = tiny.TEMPLATE.replace("'<|im_start|>assistant\n' }}", "'<|im_start|>assistant\n<think>\n' }}")
# Takes the blanks around every text away, so that an answer is not there as written.
STRIPS = (
    "{% for m in messages %}{{ " + _TURN + "m.content | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SHOUTS = (
    "{% for m in messages %}{{ "
    + _TURN
    + "(m.content if loop.last else m.content | upper) + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
REFUSES = "{{ raise_exception('never') }}"


def words(folder: Path, template: str | None = tiny.TEMPLATE) -> Tokenizer:
    tiny.tokenizer(folder)
    path = folder / "tokenizer_config.json"
    about = json.loads(path.read_text())
    about["chat_template"] = template
    path.write_text(json.dumps(about))
    return tokenizer.load(folder)


def trained(row: dict[str, Any], tok: Tokenizer, train_on: masks.TrainOn = "assistant", length: int = 0) -> list[str]:
    """The runs of trained tokens as text."""
    found = masks.encode(row, tok, train_on, length)
    runs: list[list[int]] = []
    before = False
    for index, flag in zip(found.ids, found.trained, strict=True):
        if flag:
            runs[-1].append(index) if before else runs.append([index])
        before = flag
    return [tok.decode(run) for run in runs]


@pytest.fixture(scope="module")
def tok(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return words(tmp_path_factory.mktemp("words"))


def test_all_answers_are_trained_with_their_end(tok: Tokenizer) -> None:
    assert trained(TALK, tok) == ["the answer<|im_end|>", " bye\n<|im_end|>"]


def test_last_answer_only(tok: Tokenizer) -> None:
    assert trained(TALK, tok, "last") == [" bye\n<|im_end|>"]


def test_all_tokens_but_the_first(tok: Tokenizer) -> None:
    found = masks.encode(TALK, tok, "all")
    assert found.trained == [False] + [True] * (len(found.ids) - 1)


@pytest.mark.parametrize(
    ("template", "runs"),
    [
        (THINKS, ["the answer<|im_end|>", "<think>\n\n</think>\n\n bye\n<|im_end|>"]),
        (OPENS, ["the answer<|im_end|>", " bye\n<|im_end|>"]),
        (STRIPS, ["the answer<|im_end|>", "bye<|im_end|>"]),
    ],
)
def test_templates_that_rewrite(tmp_path: Path, template: str, runs: list[str]) -> None:
    tok = words(tmp_path, template)
    assert trained(TALK, tok) == runs
    assert masks.encode(TALK, tok).ids == tok.encode(tok.render(TALK["messages"], add_generation_prompt=False))


def test_thoughts_that_the_template_drops_are_not_trained(tmp_path: Path) -> None:
    thinking = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nthe answer"}
    assert trained({"messages": [U, thinking, U2, A]}, words(tmp_path, THINKS))[0] == "the answer<|im_end|>"


def test_template_that_changes_answers_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="rewrites turn 3") as caught:
        masks.encode(TALK, words(tmp_path, SHOUTS))
    assert caught.value.code == "data.template_rewrites"


def test_template_that_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="never"):
        masks.encode(TALK, words(tmp_path, REFUSES))


def test_chat_needs_a_template_and_pairs_and_texts_do_not(tmp_path: Path) -> None:
    tok = words(tmp_path, None)
    with pytest.raises(ModelError) as caught:
        masks.encode(TALK, tok)
    assert caught.value.code == "model.no_chat_template"
    assert trained({"prompt": "a b", "completion": " the"}, tok) == [" the<|im_end|>"]
    assert trained({"prompt": "a b", "completion": " the"}, tok, "all") == [" b the<|im_end|>"]
    assert trained({"text": "on the"}, tok) == [" the<|im_end|>"]


def test_pair_is_one_question_and_one_answer(tok: Tokenizer) -> None:
    pair = masks.encode({"prompt": "hi", "completion": "the answer"}, tok)
    assert pair == masks.encode({"messages": [U, A]}, tok)


def test_answer_is_the_last_turn_of_its_conversation(tok: Tokenizer) -> None:
    assert masks.answer([S, U, A, U2], A2["content"], tok) == masks.encode(TALK, tok, "last")


def test_prompt_is_what_stands_before_every_answer(tok: Tokenizer) -> None:
    ids = masks.prompt([S, U], tok)
    for text in ("yes", "no, not at all"):
        whole = masks.answer([S, U], text, tok)
        assert whole.ids[: len(ids)] == ids
        assert not any(whole.trained[: len(ids)]) and all(whole.trained[len(ids) : len(ids) + 2])


def test_answer_is_cut_at_its_end(tok: Tokenizer) -> None:
    whole, cut = masks.answer([U], "the answer", tok), masks.answer([U], "the answer", tok, 20)
    assert cut.ids == whole.ids[:20] and cut.cut == len(whole.ids) - 20


def test_prompt_and_answer_without_a_template_are_plain_text(tmp_path: Path) -> None:
    plain = words(tmp_path, None)
    assert plain.decode(masks.prompt([S, U], plain)) == "be kind\n\nhi"
    found = masks.answer([U], " yes", plain)
    assert found == masks.encode({"prompt": "hi", "completion": " yes"}, plain)


def test_cut_row(tok: Tokenizer) -> None:
    whole = masks.encode(TALK, tok)
    cut = masks.encode(TALK, tok, "assistant", 40)
    assert (cut.ids, cut.trained, cut.cut) == (whole.ids[:40], whole.trained[:40], len(whole.ids) - 40)


def test_row_that_trains_nothing_says_so(tok: Tokenizer) -> None:
    found = masks.encode(TALK, tok, "last", 20)
    assert found.count == 0
    assert found.problem is not None
    assert found.problem.code == "data.nothing_trained"
    assert masks.encode(TALK, tok).problem is None


def test_token_across_the_header_belongs_to_the_header(tmp_path: Path) -> None:
    # " a" is one token; at inference the prompt ends with " ", so the model never writes it.
    tok = words(tmp_path, "{% for m in messages %}{{ m.role + ' ' + m.content + '<|im_end|>' }}{% endfor %}"
                          "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}")  # fmt: skip
    row = {"messages": [U, {"role": "assistant", "content": "ab"}]}
    assert trained(row, tok) == ["b<|im_end|>"]


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(pairs=st.lists(st.tuples(_TEXT, _TEXT), min_size=1, max_size=3))
def test_every_answer_is_found_whatever_it_says(tok: Tokenizer, pairs: list[tuple[str, str]]) -> None:
    row = {"messages": [turn for q, a in pairs for turn in ({**U, "content": q}, {**A, "content": a})]}
    assert "".join(trained(row, tok)) == "".join(a + "<|im_end|>" for _, a in pairs)


@pytest.mark.parametrize("row", [TALK, {"messages": [U, A]}], ids=["long", "short"])
def test_ids_equal_stock_mlx_lm(tmp_path: Path, row: dict[str, Any]) -> None:
    ours = words(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ids, offset = stock.ChatDataset([row], theirs, mask_prompt=True).process(row)
    assert masks.encode(row, ours).ids == list(ids)
    last = masks.encode(row, ours, "last").trained
    assert last.index(True) == offset


def test_text_and_pair_equal_stock_mlx_lm(tmp_path: Path) -> None:
    ours = words(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    pair, text = {"prompt": "hi", "completion": "the ü"}, {"text": "on the house"}
    assert masks.encode(pair, ours).ids == list(
        stock.CompletionsDataset([pair], theirs, "prompt", "completion", False).process(pair)[0]
    )
    assert masks.encode(text, ours).ids == list(stock.TextDataset([text], theirs).process(text)[0])
