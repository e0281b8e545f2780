"""Whether a definition holds together: names, kinds, what goes into what, circles. All problems at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pipelines.catalog import STEP_KINDS
from pipelines.definition import INPUTS, Definition, Place, Step, Type, asked, filled
from training.engine.catalog.formats import FORMATS
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
DEEPEST, MOST_PIECES = 24, 20_000  # levels of values in values, and values


def read(raw: Any) -> tuple[Definition | None, list[Problem]]:
    """``raw`` as a definition, and everything that is wrong with it. None: its shape is wrong already."""
    if (unfit := _too_large(raw) or _no_text(raw)) is not None:
        return None, [unfit]
    try:
        definition = check(Definition, raw)
    except ConfigError as error:
        return None, error.problems
    return definition, list(problems(definition))


def _too_large(raw: Any) -> Problem | None:
    """What only serves to overwhelm those who look into it, found without going down into it."""
    level, depth, pieces = [raw], 0, 1
    while level := [
        inner
        for value in level
        if isinstance(value, dict | list)
        for inner in (value.values() if isinstance(value, dict) else value)
    ]:
        depth, pieces = depth + 1, pieces + len(level)
        if depth > DEEPEST or pieces > MOST_PIECES:
            what = f"more than {DEEPEST} levels" if depth > DEEPEST else f"more than {MOST_PIECES} values"
            return Problem((), "pipeline.large", f"The definition has {what}.", "A pipeline is smaller.")
    return None


def _no_text(raw: Any) -> Problem | None:
    """Half a surrogate pair, which JSON and YAML can spell and no database can keep."""
    try:
        json.dumps(raw, ensure_ascii=False, skipkeys=True, default=str).encode()
    except UnicodeEncodeError:
        text = "The definition holds half a character."
        return Problem((), "pipeline.text", text, "Write the character itself in place of \\u….")
    return None


def problems(definition: Definition) -> Iterator[Problem]:
    """What is wrong with a definition whose shape is right."""
    yield from _inputs(definition)
    yield from _names(definition)
    for place, step in enumerate(definition.steps):
        yield from _step(definition, step, ("steps", place))
    yield from _circles(definition)


def _inputs(definition: Definition) -> Iterator[Problem]:
    for name, given in definition.inputs.items():
        for n, wanted in enumerate(given.formats):
            if given.type != "dataset" or wanted not in FORMATS:
                text = f"There is no form of rows '{wanted[:40]}'."
                text = text if given.type == "dataset" else f"inputs.{name} is no data set, so it has no form of rows."
                hint = f"Known are: {', '.join(FORMATS.names)}." if given.type == "dataset" else "Leave formats out."
                yield Problem((INPUTS, name, "formats", n), "input.formats", text, hint)
        if given.default is not None and given.type != "number":
            text = f"inputs.{name} is no number, so it has no default."
            yield Problem((INPUTS, name, "default"), "input.default", text, "Leave the default out.")


def _names(definition: Definition) -> Iterator[Problem]:
    seen: set[str] = set()
    for place, step in enumerate(definition.steps):
        if step.name == INPUTS or step.name in seen:
            why = "stands for the run's inputs" if step.name == INPUTS else "is taken by an earlier step"
            yield Problem(
                ("steps", place, "name"), "step.name", f"The name '{step.name}' {why}.", "Give it another name."
            )
        seen.add(step.name)


def _step(definition: Definition, step: Step, loc: Place) -> Iterator[Problem]:
    if step.kind in STEP_KINDS:
        settings, unsure = _usual(definition, step)
        for found in STEP_KINDS[step.kind].problems(settings):
            if not any(found.loc[: len(place)] == place for place in unsure):
                yield Problem((*loc, "settings", *found.loc), found.code, found.message, found.hint)
        yield from _ports(definition, step, settings, loc)
    else:
        text = f"There is no kind of step '{step.kind}'."
        yield Problem((*loc, "kind"), "step.kind", text, f"Known are: {', '.join(STEP_KINDS.names)}.")
    for place, name in asked(step.settings):
        given = definition.inputs.get(name)
        if given is None or given.type != "number":
            text = f"'{step.name}' asks for the number inputs.{name}, and there is none."
            yield Problem((*loc, "settings", *place), "input.unknown", text, "Add it to the inputs.")
    yield from _before(definition, step, loc)


def _usual(definition: Definition, step: Step) -> tuple[dict[str, Any], list[Place]]:
    """The settings with the inputs' defaults filled in, and where a default is lacking, so that anything may come."""
    places = list(asked(step.settings))
    known = {name: given.default for name, given in definition.inputs.items() if given.default is not None}
    settings = filled(step.settings, {name: 1 for _, name in places} | known)
    return settings, [place for place, name in places if name not in known]


def _before(definition: Definition, step: Step, loc: Place) -> Iterator[Problem]:
    names = {other.name for other in definition.steps}
    for n, name in enumerate(step.after):
        before = name.partition(".")[0]
        if before not in names:
            text = f"'{step.name}' waits for '{before}', and there is no such step."
            yield Problem((*loc, "after", n), "step.unknown", text, "Check the spelling.")
    needs = list(definition.needs(step))
    for name in sorted({name for name, wish in needs if wish == "failed" and (name, "succeeded") in needs}):
        text = f"'{step.name}' waits for '{name}' to succeed and to fail, so it would never begin."
        yield Problem((*loc, "after"), "step.never", text, "Take one of them out.")


def _ports(definition: Definition, step: Step, settings: dict[str, Any], loc: Place) -> Iterator[Problem]:
    kind = STEP_KINDS[step.kind]
    ports = kind.ports(settings)
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
    if found:
        return f"There are: {', '.join(found[:12])}."
    return "Add a step that makes one." if wanted == "metrics" else f"Add an input of the type {wanted}."


def _words(kind: Type) -> str:
    return {"reward_model": "reward model", "dataset": "data set", "metrics": "set of figures"}.get(kind, kind)


def _circles(definition: Definition) -> Iterator[Problem]:
    """Steps that wait for themselves, each circle once."""
    needs = {step.name: [name for name, _ in definition.needs(step)] for step in definition.steps}
    while left := _waiting(needs):
        circle = _circle(left)
        place = min(n for n, step in enumerate(definition.steps) if step.name in circle)
        text = f"These steps wait for each other: {', '.join(sorted(circle))}."
        text = text if len(circle) > 1 else f"'{circle[0]}' waits for itself."
        yield Problem(("steps", place, "after"), "pipeline.circle", text, "Let one of them begin without the others.")
        needs = {name: before for name, before in left.items() if name not in circle}


def _waiting(needs: dict[str, list[str]]) -> dict[str, list[str]]:
    """What is left once all that can begin has been taken away, again and again."""
    left = dict(needs)
    while free := [name for name, before in left.items() if not any(one in left for one in before)]:
        for name in free:
            del left[name]
    return left


def _circle(left: dict[str, list[str]]) -> list[str]:
    """A circle among steps that all wait for one of them: going back from any of them ends in one."""
    path = [next(iter(left))]
    while (before := next(one for one in left[path[-1]] if one in left)) not in path:
        path.append(before)
    return path[path.index(before) :]
