"""Conditions of gates: what is one, what is none and where, and that they mean what a tree of comparisons means."""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.expressions import DEEPEST, LONGEST, Condition, Malformed

FIGURES = {
    "val_loss": 2.0,
    "win_rate": 0.6,
    "refusals": 0.0,
    "after.loss": 1.5,
    "sft.first_val_loss": 3.0,
    "nan": math.nan,
}

HOLD = {
    "val_loss < 2.1": True,
    "val_loss < 2": False,
    "val_loss <= 2": True,
    "val_loss > 2": False,
    "val_loss >= 2.0": True,
    "val_loss == 2": True,
    "val_loss != 2": False,
    "2.1 > val_loss": True,
    "1 < 2": True,
    "val_loss<2.1": True,
    "  val_loss\n<\t2.1  ": True,
    "val_loss > -1": True,
    "val_loss >-1": True,
    "val_loss < 2.1e0 and win_rate >= 5.5E-1": True,
    "val_loss < .5 or win_rate > .5": True,
    "val_loss < 3. and 1 < 2": True,
    "after.loss < sft.first_val_loss": True,
    "not val_loss < 2": True,
    "not not val_loss < 2": False,
    "not (val_loss < 2 or win_rate > 0.5)": False,
    "(((val_loss < 2.1)))": True,
    # "and" binds closer than "or", "not" closer than both
    "1 < 2 or 1 < 2 and 2 < 1": True,
    "(1 < 2 or 1 < 2) and 2 < 1": False,
    "not 1 < 2 or 1 < 2": True,
    "not (1 < 2 or 1 < 2)": False,
    "not 2 < 1 and 2 < 1": False,
    "val_loss < 2.1 and (win_rate >= 0.55 or not refusals > 0)": True,
}


@pytest.mark.parametrize(("text", "holds"), HOLD.items(), ids=list(HOLD))
def test_a_condition_holds_or_not(text: str, holds: bool) -> None:
    assert Condition(text).holds(FIGURES)[0] is holds


#: Text → the place, counted in the text without blanks around it, and some of the words.
MALFORMED = {
    "": (1, "A figure or a number is missing"),
    "   ": (1, "A figure or a number is missing"),
    "val_loss": (9, "After 'val_loss' a comparison"),
    "val_loss 2": (10, "After 'val_loss' a comparison"),
    "val_loss <": (11, "A figure or a number is missing"),
    "< 2": (1, "A figure or a number is missing"),
    "   val_loss < $2": (12, "'$2' is neither"),
    "val_loss = 2": (10, "'= 2' is neither"),
    "val_loss < 2 and": (17, "A figure or a number is missing"),
    "and val_loss < 2": (1, "A figure or a number is missing"),
    "val_loss < 2 or or 1 < 2": (17, "A figure or a number is missing"),
    "val_loss < 2 val_loss > 1": (14, "'val_loss' was not expected here"),
    "1 < 2 < 3": (7, "'<' was not expected here"),
    "(val_loss < 2": (14, "A closing bracket is missing"),
    "val_loss < 2)": (13, "')' was not expected here"),
    "()": (2, "A figure or a number is missing"),
    "(val_loss) < 2": (10, "After 'val_loss' a comparison"),
    "not": (4, "A figure or a number is missing"),
    "val_loss not < 2": (10, "After 'val_loss' a comparison"),
    "val_loss < 2 && 1 < 2": (14, "'&& 1 < 2' is neither"),
    "a.b. < 2": (4, "'. < 2' is neither"),
    "a..b < 2": (2, "'..b < 2' is neither"),
    "__import__('os').system('ls') < 1": (12, "''os').syst' is neither"),
    "(lambda: 1)() < 2": (8, "': 1)() < 2' is neither"),
    "loss[0] < 2": (5, "'[0] < 2' is neither"),
    "2 ** 9 > loss": (3, "'** 9 > los' is neither"),
    "loss - 1 < 2": (6, "'- 1 < 2' is neither"),
    "'a' < 'b'": (1, "''a' < 'b'' is neither"),
    "loss < 1e999": (8, "1e999 is too large"),
    "loss < -1e999": (8, "-1e999 is too large"),
    "loss < ${inputs.limit}": (8, "'${inputs.l' is neither"),
    "lo\0ss < 2": (3, "is neither"),
}


@pytest.mark.parametrize(("text", "where"), MALFORMED.items(), ids=[repr(text) for text in MALFORMED])
def test_what_is_no_condition_says_where(text: str, where: tuple[int, str]) -> None:
    with pytest.raises(Malformed) as caught:
        Condition(text)
    at, words = where
    assert f"At character {at} of" in str(caught.value) and words in str(caught.value)
    problem = caught.value.problem(("settings", "condition"))
    assert (problem.loc, problem.code) == (("settings", "condition"), "condition.malformed")
    assert problem.message == str(caught.value) and problem.hint


def test_names_are_what_it_asks_for() -> None:
    assert Condition("a.b < 2 and (c > a.b or not 1 < d_2)").names == {"a.b", "c", "d_2"}
    assert Condition("android < 2 or note > 1 or oranges == 3").names == {"android", "note", "oranges"}
    assert Condition("1 < 2").names == frozenset()


def test_every_comparison_is_looked_at() -> None:
    holds, seen = Condition("val_loss < 1 and win_rate >= 0.5 and not refusals > 0").holds(FIGURES)
    assert not holds
    assert [(one.text, one.left, one.right, one.holds) for one in seen] == [
        ("val_loss < 1", 2.0, 1.0, False),
        ("win_rate >= 0.5", 0.6, 0.5, True),
        ("refusals > 0", 0.0, 0.0, False),
    ]
    assert seen[0].margin == 1.0


@pytest.mark.parametrize(
    "text", ["nan < 1", "not nan < 1", "nan != nan", "nan == nan", "1 < 2 or nan < 1", "not (nan < 1 and 1 < 2)"]
)
def test_what_is_no_number_lets_nothing_pass(text: str) -> None:
    holds, seen = Condition(text).holds(FIGURES)
    assert holds is False and any(math.isnan(one.margin) for one in seen)


def test_an_unknown_figure_is_a_key_error_with_its_name() -> None:
    with pytest.raises(KeyError, match="perplexity"):
        Condition("val_loss < 3 or perplexity < 2").holds(FIGURES)


def test_a_condition_has_a_length() -> None:
    long = "a < 1" + " and a < 1" * ((LONGEST - 5) // 10)
    assert Condition(long).names == {"a"}
    assert Condition(" " * LONGEST + long).names == {"a"}, "blanks around it do not count"
    with pytest.raises(Malformed, match=f"at most {LONGEST} are read"):
        Condition(long + " and a < 1" * 2)


@pytest.mark.parametrize("wrap", ["({})", "not {}"], ids=["brackets", "nots"])
def test_a_condition_has_a_depth(wrap: str) -> None:
    text = "1 < 2"
    for _ in range(DEEPEST):
        text = wrap.format(text)
    assert Condition(text).holds({})[0]
    with pytest.raises(Malformed, match=f"more than {DEEPEST} brackets"):
        Condition(wrap.format(text))


OPERATORS = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
NAMES = ["a", "b", "step.c", "x_1", "nothing", "order"]
numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: 0.0 if value == 0 else value)
sides = st.one_of(st.sampled_from(NAMES), numbers)
trees = st.recursive(
    st.tuples(st.sampled_from(list(OPERATORS)), sides, sides),
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner), st.tuples(st.sampled_from(["and", "or"]), inner, inner)
    ),
    max_leaves=6,
)  # fmt: skip


def write(tree: tuple, chance, binds: int = 0) -> str:
    """The tree as text: brackets where they are needed, and sometimes where they are not."""
    word = tree[0]
    strength = {"or": 1, "and": 2, "not": 3}.get(word, 4)
    if word == "not":
        text = f"not {write(tree[1], chance, 3)}"
    elif word in ("and", "or"):
        # both sides bracketed where they bind less; an equal word in a chain needs none
        text = f"{write(tree[1], chance, strength)} {word} {write(tree[2], chance, strength)}"
    else:
        blank = chance.choice(["", " ", "  ", "\n"])
        text = f"{tree[1]}{blank}{word}{blank}{tree[2]}"
    return f"({text})" if strength < binds or chance.random() < 0.2 else text


def means(tree: tuple, figures: dict[str, float]) -> bool:
    word = tree[0]
    if word == "not":
        return not means(tree[1], figures)
    if word == "and":
        return means(tree[1], figures) and means(tree[2], figures)
    if word == "or":
        return means(tree[1], figures) or means(tree[2], figures)
    left, right = (figures[side] if isinstance(side, str) else side for side in tree[1:])
    return OPERATORS[word](left, right)


def comparisons(tree: tuple) -> int:
    return 1 if tree[0] in OPERATORS else sum(comparisons(part) for part in tree[1:])


@given(trees, st.lists(numbers, min_size=len(NAMES), max_size=len(NAMES)), st.randoms(use_true_random=False))
def test_a_random_condition_means_what_its_tree_means(tree, values, chance) -> None:
    text = write(tree, chance)
    figures = dict(zip(NAMES, values))
    holds, seen = Condition(text).holds(figures)
    assert holds == means(tree, figures)
    assert len(seen) == comparisons(tree)


@given(st.text(max_size=60) | st.text("ab1.<>=!() \nandornt-eE", max_size=40))
def test_any_text_is_a_condition_or_says_where_not(text: str) -> None:
    try:
        condition = Condition(text)
    except Malformed as error:
        said = str(error)
    else:
        said = "At character 0"
        assert Condition(condition.text).names == condition.names
        condition.holds(dict.fromkeys(condition.names, 1.0))
    assert said.startswith("At character ")
