"""A definition while a person edits it: texts of form fields in, plain values out, nothing lost on the way.

What is half written stays as it was typed; every problem names the field that it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from mlxplatform.core.errors import Invalid
from pipelines import files
from pipelines.catalog import STEP_KINDS
from pipelines.checking import FITS
from pipelines.definition import INPUTS, MOST_INPUTS, MOST_STEPS, Definition, Type
from training.engine.errors import Problem

#: By how many places a step moves.
MOVES = {"up-step": -1, "down-step": 1, "keep-step": 0}
INPUT_TYPES = {"model": "Model", "reward_model": "Reward model", "dataset": "Data set", "number": "Number"}
Problems = list[Problem]


@dataclass(slots=True)
class InputDraft:
    """One input."""

    name: str = ""
    type: str = "model"
    label: str = ""
    help: str = ""
    formats: str = ""
    default: str = ""

    def raw(self) -> dict[str, Any]:
        made: dict[str, Any] = {"type": self.type}
        made |= {key: text for key, text in (("label", self.label), ("help", self.help)) if text}
        if formats := _list(self.formats):
            made["formats"] = formats
        if self.default:
            made["default"] = self.default
        return made


@dataclass(slots=True)
class StepDraft:
    """One step."""

    name: str = ""
    kind: str = "train"
    label: str = ""
    uses: dict[str, str] = field(default_factory=dict)
    figures: str = ""
    """Further figures, a line each: ``name: step.metrics``."""
    settings: str = ""
    after: str = ""
    on_failure: str = ""

    def plain_settings(self) -> tuple[dict[str, Any], Problems]:
        """The settings as values, and what cannot be read."""
        try:
            found = files.load(self.settings)
        except Invalid as error:
            return {}, [Problem(("settings",), p.code, p.message, p.hint) for p in error.problems]
        if found is None:
            return {}, []
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            text = "These are no settings."
            return {}, [Problem(("settings",), "settings.shape", text, "Write one on each line, such as iters: 100")]
        return found, []

    def raw(self) -> tuple[dict[str, Any], Problems]:
        """Plain values, and what cannot be read; places are relative to the step."""
        settings, problems = self.plain_settings()
        uses = {port: reference for port, reference in self.uses.items() if reference}
        for n, line in enumerate(filter(None, map(str.strip, self.figures.split("\n"))), 1):
            name, sign, reference = line.partition(":")
            if not sign:
                text = f"Line {n}: '{line[:40]}' names no figures."
                problems.append(Problem(("uses",), "uses.line", text, "Write it like name: step.metrics"))
            uses[name.strip()] = reference.strip()
        made = {"name": self.name, "kind": self.kind, "label": self.label, "uses": uses, "settings": settings}
        made |= {"after": _list(self.after), "on_failure": self.on_failure}
        return {key: value for key, value in made.items() if value or key in ("name", "kind")}, problems


@dataclass(slots=True)
class Draft:
    """The whole definition."""

    name: str = ""
    description: str = ""
    inputs: list[InputDraft] = field(default_factory=list)
    steps: list[StepDraft] = field(default_factory=list)

    @classmethod
    def of(cls, definition: Definition) -> Draft:
        """The draft that says the same as ``definition``."""
        inputs = [
            InputDraft(name, one.type, one.label, one.help, ", ".join(one.formats), _number(one.default))
            for name, one in definition.inputs.items()
        ]
        steps = []
        for step in definition.steps:
            ports = _ports(step.kind, step.settings)
            known = {port: reference for port, reference in step.uses.items() if port in ports}
            rest = "\n".join(f"{port}: {step.uses[port]}" for port in step.uses if port not in ports)
            lines = "\n".join(_line(key, value) for key, value in step.settings.items())
            made = StepDraft(step.name, step.kind, step.label, known, rest, lines, ", ".join(step.after))
            made.on_failure = "" if step.on_failure == "stop" else step.on_failure
            steps.append(made)
        return cls(definition.name, definition.description, inputs, steps)

    @classmethod
    def posted(cls, post: Mapping[str, Any]) -> Draft:
        """The draft out of the fields of a request."""
        return cls(
            _text(post, "name"),
            _text(post, "description"),
            [
                InputDraft(**{key: _text(post, f"i{n}-{key}") for key in InputDraft.__slots__})
                for n in range(_count(post, "inputs", MOST_INPUTS))
            ],
            [_step(post, n) for n in range(_count(post, "steps", MOST_STEPS))],
        )

    def raw(self) -> tuple[dict[str, Any], Problems]:
        """Plain values for the check, and what cannot be read at all."""
        problems: Problems = []
        inputs: dict[str, Any] = {}
        for one in self.inputs:
            if one.name in inputs:
                text = f"There are two inputs '{one.name[:40]}'."
                problems.append(Problem((INPUTS, one.name), "input.twice", text, "Give one another name."))
            inputs[one.name] = one.raw()
        steps = []
        for n, step in enumerate(self.steps):
            made, wrong = step.raw()
            steps.append(made)
            problems += [Problem(("steps", n, *p.loc), p.code, p.message, p.hint) for p in wrong]
        made = {"schema": 1, "name": self.name, "description": self.description, "inputs": inputs, "steps": steps}
        return {key: value for key, value in made.items() if value or key in ("name", "steps")}, problems

    def act(self, action: str) -> int | None:
        """Add, remove or move an input or a step: ``add-step``, ``up-step:2``; anything else changes nothing.

        Returns the place of the step that it was about.
        """
        verb, _, place = action.partition(":")
        n = int(place) if place.isdecimal() and len(place) < 4 else -1
        if verb == "add-step":
            self.steps.append(StepDraft(name=_free("step", [step.name for step in self.steps])))
            return len(self.steps) - 1
        if verb == "add-input":
            self.inputs.append(InputDraft(name=_free("input", [one.name for one in self.inputs])))
        elif verb == "remove-input" and 0 <= n < len(self.inputs):
            del self.inputs[n]
        elif verb == "remove-step" and 0 <= n < len(self.steps):
            del self.steps[n]
        elif verb in MOVES and 0 <= n < len(self.steps) and 0 <= n + MOVES[verb] < len(self.steps):
            other = n + MOVES[verb]
            self.steps[n], self.steps[other] = self.steps[other], self.steps[n]
            return other
        return None

    def ports(self, n: int) -> list[dict[str, Any]]:
        """What step ``n`` works with, each with what fits."""
        step = self.steps[n]
        settings, _ = step.plain_settings()
        return [
            {
                "name": name,
                "label": name.replace("_", " ").capitalize(),
                "text": port.text,
                "required": port.required,
                "value": step.uses.get(name, ""),
                "offers": list(self._offers(n, port.type)),
            }
            for name, port in _ports(step.kind, settings).items()
        ]

    def _offers(self, n: int, wanted: Type) -> Iterator[str]:
        """References that fit: inputs, then what other steps give."""
        yield from (f"{INPUTS}.{one.name}" for one in self.inputs if one.name and one.type in FITS[wanted])
        for other in (step for place, step in enumerate(self.steps) if place != n and step.kind in STEP_KINDS):
            gives = STEP_KINDS[other.kind].gives(other.plain_settings()[0])
            yield from (f"{other.name}.{output}" for output, kind in gives.items() if kind in FITS[wanted])

    def figures(self, n: int) -> list[str]:
        """The figures that step ``n`` may take under any name; empty if it takes none."""
        kind = self.steps[n].kind
        takes = kind in STEP_KINDS and STEP_KINDS[kind].takes_figures
        return [*self._offers(n, "metrics")] if takes else []


def blank() -> Draft:
    """A first step to begin with."""
    inputs = [InputDraft("model", "model", "Model"), InputDraft("data", "dataset", "Conversations", "", "chat")]
    first = StepDraft("sft", "train", "Teach answers", {"model": "inputs.model", "data": "inputs.data"})
    first.settings = "method: sft\niters: 100"
    return Draft("", "", inputs, [first])


def _ports(kind: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    return STEP_KINDS[kind].ports(settings) if kind in STEP_KINDS else {}


def _step(post: Mapping[str, Any], n: int) -> StepDraft:
    texts = {key: _text(post, f"s{n}-{key}") for key in StepDraft.__slots__ if key != "uses"}
    start = f"s{n}-uses-"
    uses = {key.removeprefix(start): _text(post, key) for key in post if key.startswith(start)}
    return StepDraft(**texts, uses=uses)


def _text(post: Mapping[str, Any], key: str) -> str:
    return str(post.get(key, "")).replace("\r\n", "\n").strip()


def _count(post: Mapping[str, Any], key: str, most: int) -> int:
    text = _text(post, key)
    return min(int(text), most + 1) if text.isdecimal() and len(text) < 4 else 0


def _list(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _line(key: str, value: Any) -> str:
    """``key: value`` on one line."""
    return yaml.safe_dump({key: value}, default_flow_style=True, width=10**6, allow_unicode=True).strip()[1:-1]


def _free(word: str, taken: list[str]) -> str:
    return next(name for n in range(1, len(taken) + 2) if (name := f"{word}_{n}") not in taken)
