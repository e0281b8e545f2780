"""Whether a definition holds together: names, kinds, what goes into what, circles. All problems at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.catalog import STEP_KINDS
from pipelines.definition import INPUTS, Definition, Step, Type, asked, filled
from training.engine.config.training import check
from training.engine.errors import ConfigError, Problem

#: What may go into a port: a reward model is a model, too.
FITS: dict[Type, frozenset[Type]] = {
    "model": frozenset({"model", "reward_model"}),
    "reward_model": frozenset({"reward_model"}),
    "dataset": frozenset({"dataset"}),
    "metrics": frozenset({"metrics"}),
    "number": frozenset({"number"}),
}


def read(raw: Any) -> tuple[Definition | None, list[Problem]]:
    """``raw`` as a definition, and everything that is wrong with it. None: its shape is wrong already."""
    try:
        definition = check(Definition, raw)
    except ConfigError as error:
        return None, error.problems
    return definition, list(problems(definition))


def problems(definition: Definition) -> Iterator[Problem]:
    """What is wrong with a definition whose shape is right."""
    yield from _names(definition)
    for place, step in enumerate(definition.steps):
        yield from _step(definition, step, ("steps", place))
    yield from _circles(definition)


def _names(definition: Definition) -> Iterator[Problem]:
    seen: set[str] = set()
    for place, step in enumerate(definition.steps):
        if step.name == INPUTS or step.name in seen:
            why = "stands for the run's inputs" if step.name == INPUTS else "is taken by an earlier step"
            yield Problem(
                ("steps", place, "name"), "step.name", f"The name '{step.name}' {why}.", "Give it another name."
            )
        seen.add(step.name)


def _step(definition: Definition, step: Step, loc: tuple[str | int, ...]) -> Iterator[Problem]:
    if step.kind not in STEP_KINDS:
        known = ", ".join(STEP_KINDS.names)
        text = f"There is no kind of step '{step.kind}'."
        yield Problem((*loc, "kind"), "step.kind", text, f"Known are: {known}.")
        return
    kind, settings = STEP_KINDS[step.kind], step.settings
    for name in set(asked(settings)):
        given = definition.inputs.get(name)
        if given is None or given.type != "number":
            text = f"'{step.name}' asks for the number inputs.{name}, and there is none."
            yield Problem((*loc, "settings"), "input.unknown", text, "Add it to the inputs.")
    numbers = {name: given.default or 1 for name, given in definition.inputs.items()}
    try:
        whole = filled(settings, numbers)
    except KeyError:
        return
    for found in kind.problems(whole):
        yield Problem((*loc, "settings", *found.loc), found.code, found.message, found.hint)
    yield from _ports(definition, step, loc)
    for n, name in enumerate(step.after):
        before = name.partition(".")[0]
        if before not in {other.name for other in definition.steps}:
            text = f"'{step.name}' waits for '{before}', and there is no such step."
            yield Problem((*loc, "after", n), "step.unknown", text, "Check the spelling.")


def _ports(definition: Definition, step: Step, loc: tuple[str | int, ...]) -> Iterator[Problem]:
    kind = STEP_KINDS[step.kind]
    ports = kind.ports(step.settings)
    for name, port in ports.items():
        if port.required and name not in step.uses:
            text = f"'{step.name}' has no {name}: {port.text}."
            yield Problem((*loc, "uses", name), "port.missing", text, "Name an input or an earlier step's output.")
    for name, reference in step.uses.items():
        if name not in ports and not kind.takes_figures:
            text = f"A step of the kind '{step.kind}' uses no '{name}'."
            yield Problem((*loc, "uses", name), "port.unknown", text, f"It uses: {', '.join(ports) or 'nothing'}.")
            continue
        wanted: Type = ports[name].type if name in ports else "metrics"
        found = type_of(definition, reference)
        if found is None:
            text = f"'{step.name}' uses {reference}, and there is no such thing."
            yield Problem((*loc, "uses", name), "reference.unknown", text, _offers(definition, step, wanted))
        elif found not in FITS[wanted]:
            text = f"'{step.name}' needs a {_words(wanted)} as {name}; {reference} is a {_words(found)}."
            yield Problem((*loc, "uses", name), "reference.type", text, _offers(definition, step, wanted))


def type_of(definition: Definition, reference: str) -> Type | None:
    """What ``reference`` stands for; None: nothing."""
    source, _, output = reference.partition(".")
    if source == INPUTS:
        found = definition.inputs.get(output)
        return found.type if found else None
    step = next((step for step in definition.steps if step.name == source), None)
    if step is None or step.kind not in STEP_KINDS:
        return None
    return STEP_KINDS[step.kind].gives(step.settings).get(output)


def offers(definition: Definition, step: Step, wanted: Type) -> list[str]:
    """References that could go into a port of this type."""
    found = [f"{INPUTS}.{name}" for name, given in definition.inputs.items() if given.type in FITS[wanted]]
    for other in definition.steps:
        if other.name != step.name and other.kind in STEP_KINDS:
            gives = STEP_KINDS[other.kind].gives(other.settings)
            found += [f"{other.name}.{name}" for name, kind in gives.items() if kind in FITS[wanted]]
    return found


def _offers(definition: Definition, step: Step, wanted: Type) -> str:
    found = offers(definition, step, wanted)
    return f"There are: {', '.join(found[:12])}." if found else f"Add an input of the type {wanted}."


def _words(kind: Type) -> str:
    return {"reward_model": "reward model", "dataset": "data set", "metrics": "set of figures"}.get(kind, kind)


def _circles(definition: Definition) -> Iterator[Problem]:
    """Steps that wait for themselves, found by taking away those that do not wait for any that is left."""
    names = {step.name for step in definition.steps}
    needs = {step.name: {name for name, _ in definition.needs(step)} & names for step in definition.steps}
    while free := [name for name, before in needs.items() if not before & needs.keys()]:
        for name in free:
            del needs[name]
    if needs:
        place = next(i for i, step in enumerate(definition.steps) if step.name in needs)
        text = f"These steps wait for each other: {', '.join(sorted(needs))}."
        yield Problem(("steps", place, "after"), "pipeline.circle", text, "Let one of them begin without the others.")
