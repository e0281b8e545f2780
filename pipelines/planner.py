"""What a run does next: a pure function from where its steps stand to what is to be done.

It knows no database, no clock and no jobs, so that every case can be tried: rows go in, decisions come out. Asking it
twice gives the same answer, and once everything it says was done it has nothing more to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipelines.states import STEP_ENDED, RunState, StepState

Wish = Literal["succeeded", "failed"]


@dataclass(frozen=True, slots=True)
class Need:
    """A step that must have ended in a certain way before another one begins."""

    step: str
    wants: Wish = "succeeded"


@dataclass(frozen=True, slots=True)
class Node:
    """A step as the planner sees it."""

    name: str
    state: str
    needs: tuple[Need, ...] = ()
    tolerated: bool = False
    """Its failure does not fail the run."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now; everything may be empty."""

    begin: tuple[str, ...] = ()
    skip: tuple[tuple[str, str], ...] = ()
    """Steps that can never begin, each with the step that is to blame."""
    cancel: tuple[str, ...] = ()
    verdict: RunState | None = None
    """How the run ended, once nothing is left to do."""
    blame: tuple[str, ...] = ()
    """Steps because of which it has failed."""

    def __bool__(self) -> bool:
        return bool(self.begin or self.skip or self.cancel or self.verdict)


def plan(nodes: tuple[Node, ...], *, cancelled: bool = False, paused: bool = False) -> Plan:
    """The next decisions of a run. ``cancelled``: a person wants its end. ``paused``: nothing new begins.

    A step begins when all its needs are met, is skipped when one of them never will be, and the run has ended when all
    its steps have: cancelled if a person ended it, failed if a step failed that nobody waits to see fail, else
    succeeded.
    """
    states = {node.name: node.state for node in nodes}
    if all(state in STEP_ENDED for state in states.values()):
        return _ended(nodes, cancelled=cancelled)
    if cancelled:
        return Plan(cancel=tuple(node.name for node in nodes if node.state not in STEP_ENDED))
    begin, skip = [], []
    for node in (node for node in nodes if node.state == StepState.WAITING):
        hopeless = next((need for need in node.needs if _is_hopeless(need, states)), None)
        if hopeless is not None:
            skip.append((node.name, hopeless.step))
        elif not paused and all(states[need.step] == need.wants for need in node.needs):
            begin.append(node.name)
    return Plan(tuple(begin), tuple(skip))


def _is_hopeless(need: Need, states: dict[str, str]) -> bool:
    state = states[need.step]
    return state in STEP_ENDED and state != need.wants


def _ended(nodes: tuple[Node, ...], *, cancelled: bool) -> Plan:
    if cancelled and any(node.state == StepState.CANCELLED for node in nodes):
        return Plan(verdict=RunState.CANCELLED)
    expected = {need.step for node in nodes for need in node.needs if need.wants == "failed"}
    blame = tuple(
        node.name
        for node in nodes
        if node.state == StepState.CANCELLED
        or (node.state == StepState.FAILED and not node.tolerated and node.name not in expected)
    )
    return Plan(verdict=RunState.FAILED if blame else RunState.SUCCEEDED, blame=blame)
