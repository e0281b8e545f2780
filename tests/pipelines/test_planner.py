"""The planner, case by case and on random graphs: every run ends, in order, each step once, with the right verdict."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.planner import Need, Node, Plan, plan
from pipelines.states import STEP_ENDED, RunState, StepState

W, A, R = StepState.WAITING, StepState.APPROVAL, StepState.RUNNING
OK, NO, SKIP, STOP = StepState.SUCCEEDED, StepState.FAILED, StepState.SKIPPED, StepState.CANCELLED


def node(name: str, state: str = W, *needs: str, tolerated: bool = False) -> Node:
    """``needs``: "a" must succeed, "a.failed" must fail."""
    found = tuple(Need(need.split(".")[0], "failed" if need.endswith(".failed") else "succeeded") for need in needs)
    return Node(name, state, found, tolerated)


def chain(*states: str) -> tuple[Node, ...]:
    """a, b after a, c after b, …"""
    names = "abcdefgh"[: len(states)]
    return tuple(node(name, state, *names[max(i - 1, 0) : i]) for i, (name, state) in enumerate(zip(names, states)))


def diamond(a: str, b: str, c: str, d: str) -> tuple[Node, ...]:
    return (node("a", a), node("b", b, "a"), node("c", c, "a"), node("d", d, "b", "c"))


def branch(gate: str, good: str = W, bad: str = W, *, tolerated: bool = False) -> tuple[Node, ...]:
    """``good`` after the gate, ``bad`` after its failure."""
    return (node("gate", gate, tolerated=tolerated), node("good", good, "gate"), node("bad", bad, "gate.failed"))


CASES: list[tuple[str, tuple[Node, ...], Plan]] = [
    ("one step begins", chain(W), Plan(begin=("a",))),
    ("only the first of a chain begins", chain(W, W, W), Plan(begin=("a",))),
    ("nothing while the first runs", chain(R, W), Plan()),
    ("nothing while a person has to decide", chain(OK, A, W), Plan()),
    ("the next begins", chain(OK, W, W), Plan(begin=("b",))),
    ("a chain that went through", chain(OK, OK, OK), Plan(verdict=RunState.SUCCEEDED)),
    ("a failure skips what follows, step by step", chain(NO, W, W), Plan(skip=(("b", "a"),))),
    ("a skip cascades", chain(NO, SKIP, W), Plan(skip=(("c", "b"),))),
    ("a failed chain", chain(OK, NO, SKIP), Plan(verdict=RunState.FAILED, blame=("b",))),
    ("both sides of a diamond begin", diamond(OK, W, W, W), Plan(begin=("b", "c"))),
    ("a diamond waits for both sides", diamond(OK, OK, R, W), Plan()),
    ("a diamond closes", diamond(OK, OK, OK, W), Plan(begin=("d",))),
    ("one side fails, the other goes on", diamond(OK, NO, R, W), Plan(skip=(("d", "b"),))),
    ("the first that failed is to blame", diamond(OK, NO, NO, W), Plan(skip=(("d", "b"),))),
    ("all that failed are to blame", diamond(OK, NO, NO, SKIP), Plan(verdict=RunState.FAILED, blame=("b", "c"))),
    ("a gate that holds", branch(OK), Plan(begin=("good",), skip=(("bad", "gate"),))),
    ("a gate that does not", branch(NO), Plan(begin=("bad",), skip=(("good", "gate"),))),
    ("an awaited failure fails nothing", branch(NO, SKIP, OK), Plan(verdict=RunState.SUCCEEDED)),
    ("the branch itself fails", branch(NO, SKIP, NO), Plan(verdict=RunState.FAILED, blame=("bad",))),
    ("a branch of a skipped step is skipped", (node("a", SKIP), node("b", W, "a.failed")), Plan(skip=(("b", "a"),))),
    ("nor of a cancelled one", (node("a", STOP), node("b", W, "a.failed")), Plan(skip=(("b", "a"),))),
    ("a tolerated failure", (node("a", NO, tolerated=True), node("b", OK)), Plan(verdict=RunState.SUCCEEDED)),
    ("it still skips what needs it", (node("a", NO, tolerated=True), node("b", W, "a")), Plan(skip=(("b", "a"),))),
    ("one of two failures is tolerated", (node("a", NO, tolerated=True), node("b", NO)),
     Plan(verdict=RunState.FAILED, blame=("b",))),
    ("a side branch fails alone", (node("a", OK), node("side", NO, "a"), node("b", W, "a")), Plan(begin=("b",))),
    ("contrary wishes never begin", (node("a", NO), node("b", W, "a", "a.failed")), Plan(skip=(("b", "a"),))),
    ("a step stopped without the run", (node("a", STOP), node("b", OK)),
     Plan(verdict=RunState.FAILED, blame=("a",))),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "expected"), [pytest.param(n, e, id=name) for name, n, e in CASES])
def test_a_case(nodes: tuple[Node, ...], expected: Plan) -> None:
    assert plan(nodes) == expected
    assert plan(nodes) == expected


CANCELLED: list[tuple[str, tuple[Node, ...], Plan]] = [
    ("everything that has not ended", (*chain(OK, R), node("x", A), node("y")), Plan(cancel=("b", "x", "y"))),
    ("nothing is skipped or begun", branch(OK), Plan(cancel=("good", "bad"))),
    ("it has ended", chain(OK, STOP), Plan(verdict=RunState.CANCELLED)),
    ("a failure on the way down", chain(NO, STOP), Plan(verdict=RunState.CANCELLED)),
    ("too late: it had succeeded", chain(OK, OK), Plan(verdict=RunState.SUCCEEDED)),
    ("too late: it had failed", chain(NO, SKIP), Plan(verdict=RunState.FAILED, blame=("a",))),
]


@pytest.mark.parametrize(("nodes", "expected"), [pytest.param(n, e, id=name) for name, n, e in CANCELLED])
def test_a_cancelled_case(nodes: tuple[Node, ...], expected: Plan) -> None:
    assert plan(nodes, cancelled=True) == expected
    assert plan(nodes, cancelled=True, paused=True) == expected


PAUSED: list[tuple[str, tuple[Node, ...], Plan]] = [
    ("nothing begins", chain(OK, W), Plan()),
    ("what cannot be reached is said", chain(NO, W), Plan(skip=(("b", "a"),))),
    ("a gate's branch waits, the other is skipped", branch(NO), Plan(skip=(("good", "gate"),))),
    ("what ran may end it", chain(OK, OK), Plan(verdict=RunState.SUCCEEDED)),
]


@pytest.mark.parametrize(("nodes", "expected"), [pytest.param(n, e, id=name) for name, n, e in PAUSED])
def test_a_paused_case(nodes: tuple[Node, ...], expected: Plan) -> None:
    assert plan(nodes, paused=True) == expected


def test_a_plan_without_decisions_is_false() -> None:
    assert not Plan()
    for something in (Plan(begin=("a",)), Plan(skip=(("a", "b"),)), Plan(cancel=("a",)), Plan(verdict=R)):
        assert something


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Node, ...]:
    """Steps that need some of those before them, in an order of the definition that says nothing."""
    count = draw(st.integers(1, 8))
    names = [f"s{n}" for n in range(count)]
    nodes = []
    for n, name in enumerate(names):
        before = draw(st.lists(st.sampled_from(names[:n]), unique=True, max_size=3)) if n else []
        needs = [f"{one}{draw(st.sampled_from(['', '', '.failed']))}" for one in before]
        nodes.append(node(name, W, *needs, tolerated=draw(st.booleans())))
    return tuple(draw(st.permutations(nodes)))


class World:
    """Does what the planner says, and lets what was begun end as it was told."""

    def __init__(self, nodes: tuple[Node, ...], outcomes: dict[str, str]) -> None:
        self.nodes = {one.name: one for one in nodes}
        self.states: dict[str, str] = {one.name: W for one in nodes}
        self.outcomes = outcomes
        self.begun: list[str] = []

    def rows(self) -> tuple[Node, ...]:
        return tuple(Node(n.name, self.states[n.name], n.needs, n.tolerated) for n in self.nodes.values())

    def decide(self, **wishes: bool) -> Plan:
        """One look, done; what it says is checked on the way."""
        made = plan(self.rows(), **wishes)
        assert made == plan(self.rows(), **wishes), "asking twice says the same"
        for name in made.begin:
            assert self.states[name] == W
            assert all(self.states[need.step] == need.wants for need in self.nodes[name].needs)
            self.begun.append(name)
            self.states[name] = R
        for name, blame in made.skip:
            assert self.states[name] == W and self.states[blame] in STEP_ENDED
            self.states[name] = SKIP
        for name in made.cancel:
            assert self.states[name] not in STEP_ENDED
            self.states[name] = STOP
        return made

    def settle(self, choose: Callable[[list[str]], str], **wishes: bool) -> RunState:
        """Until the run has ended; ``choose`` says which running step ends next."""
        for _ in range(5 * len(self.nodes) + 5):
            made = self.decide(**wishes)
            if made.verdict is not None:
                return made.verdict
            running = [name for name, state in self.states.items() if state == R]
            assert made or running, f"stuck: {self.states}"
            if not made and running:
                name = choose(running)
                self.states[name] = self.outcomes[name]
        raise AssertionError(f"does not end: {self.states}")


def oracle(nodes: tuple[Node, ...], outcomes: dict[str, str]) -> tuple[dict[str, str], RunState]:
    """How each step must end, and the run: straight from the definition, without time."""
    by_name = {one.name: one for one in nodes}
    ends: dict[str, str] = {}

    def end(name: str) -> str:
        if name not in ends:
            met = [end(need.step) == need.wants for need in by_name[name].needs]
            ends[name] = outcomes[name] if all(met) else SKIP
        return ends[name]

    awaited = {need.step for one in nodes for need in one.needs if need.wants == "failed"}
    bad = [name for name in by_name if end(name) == NO and not by_name[name].tolerated and name not in awaited]
    return ends, RunState.FAILED if bad else RunState.SUCCEEDED


outcomes_of = st.lists(st.sampled_from([OK, OK, NO]), min_size=8, max_size=8)


@given(graphs(), outcomes_of, st.randoms(use_true_random=False))
def test_every_run_ends_as_its_definition_says(nodes, outcomes, chance) -> None:
    told = {f"s{n}": outcome for n, outcome in enumerate(outcomes)}
    world = World(nodes, told)
    verdict = world.settle(chance.choice)
    ends, expected = oracle(nodes, told)
    assert (world.states, verdict) == (ends, expected)
    assert sorted(world.begun) == sorted(name for name, state in ends.items() if state != SKIP), "each once"


@given(graphs(), outcomes_of, st.integers(0, 8), st.randoms(use_true_random=False))
def test_a_cancelled_run_ends_wherever_it_stood(nodes, outcomes, after, chance) -> None:
    world = World(nodes, {f"s{n}": outcome for n, outcome in enumerate(outcomes)})
    for _ in range(after):
        if world.decide().verdict is None and (running := [n for n, state in world.states.items() if state == R]):
            world.states[chance.choice(running)] = chance.choice([OK, NO])
    before, open_ = list(world.begun), any(state not in STEP_ENDED for state in world.states.values())
    verdict = world.settle(chance.choice, cancelled=True)
    assert world.begun == before, "nothing begins any more"
    assert (verdict == RunState.CANCELLED) == open_


@given(graphs(), outcomes_of, st.randoms(use_true_random=False))
def test_a_paused_run_begins_nothing_and_ends_the_same_afterwards(nodes, outcomes, chance) -> None:
    told = {f"s{n}": outcome for n, outcome in enumerate(outcomes)}
    world = World(nodes, told)
    for _ in range(3 * len(nodes)):
        begun = list(world.begun)
        world.decide(paused=True)
        assert world.begun == begun
        if not world.decide(paused=chance.random() < 0.5).begin:
            for name in [name for name, state in world.states.items() if state == R][:1]:
                world.states[name] = told[name]
    verdict = world.settle(chance.choice)
    assert (world.states, verdict) == oracle(nodes, told)


@given(graphs(), outcomes_of, st.randoms(use_true_random=False))
def test_the_order_of_the_definition_decides_nothing_but_the_order_of_words(nodes, outcomes, chance) -> None:
    states = {f"s{n}": chance.choice([W, R, OK, NO, SKIP]) for n in range(8)}
    rows = tuple(Node(n.name, states[n.name], n.needs, n.tolerated) for n in nodes)
    one, other = plan(rows), plan(tuple(reversed(rows)))
    assert set(one.begin) == set(other.begin) and set(one.skip) == set(other.skip)
    assert one.verdict == other.verdict and set(one.blame) == set(other.blame)
