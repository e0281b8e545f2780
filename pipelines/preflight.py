"""Whether a run can work at all, found out before anything starts: choices, formats, tokens, heads."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.catalog import STEP_KINDS
from pipelines.definition import INPUTS, Definition, Step, filled
from registry.models import ModelVersion
from training import evaluable, validation
from training.engine.config.evaluations import EvaluateSettings
from training.engine.config.training import TrainSettings, check
from training.engine.errors import Problem
from training.models import DatasetVersion

Rows = dict[str, Any]
MOST_NUMBER = 1e12
REWARDS = "reward_model"
_PORTS = {
    "model_version_id": "model",
    "dataset_version_id": "data",
    "reward_version_id": REWARDS,
    "baseline_version_id": "baseline",
}


def chosen(user: Any, definition: Definition, given: Mapping[str, Any]) -> tuple[Rows, list[Problem]]:
    """The rows and numbers that were chosen, by input, and what is wrong with the choice."""
    rows: Rows = {}
    problems = [
        Problem((INPUTS, name[:60]), "input.unknown", f"There is no input '{name[:60]}'.", _known(definition))
        for name in given
        if name not in definition.inputs
    ]
    for name, wanted in definition.inputs.items():
        value = given.get(name)
        label = wanted.label or name
        if wanted.type == "number":
            value = wanted.default if value in (None, "") else value
        found: Any = None
        problem: Problem | None = None
        if value in (None, ""):
            problem = Problem((INPUTS, name), "input.missing", f"'{label}' is not chosen.", "Choose one.")
        elif wanted.type == "number":
            found, problem = _number(name, label, value)
        else:
            found, problem = _row(user, definition, name, value)
        if problem is not None:
            problems.append(problem)
        else:
            rows[name] = found
    return rows, problems


def _known(definition: Definition) -> str:
    return f"There are: {', '.join(definition.inputs) or 'none'}."


def _number(name: str, label: str, value: Any) -> tuple[float | None, Problem | None]:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not abs(number) <= MOST_NUMBER:
        text = f"'{label}' is no number: {str(value)[:40]}."
        return None, Problem((INPUTS, name), "input.number", text, "Write a number.")
    return (int(number) if number.is_integer() else number), None


def _row(user: Any, definition: Definition, name: str, value: Any) -> tuple[Any, Problem | None]:
    wanted = definition.inputs[name]
    table: Any = DatasetVersion if wanted.type == "dataset" else ModelVersion
    what = {"dataset": "data set", "reward_model": "reward model"}.get(wanted.type, "model")
    found, loc = find(table, user, value), (INPUTS, name)
    if found is None:
        return None, Problem(loc, "input.gone", f"There is no such {what} version.", "Choose one of the list.")
    if wanted.type == "reward_model" and not found.is_reward_model:
        return None, Problem(loc, "input.no_reward_model", f"{found} is no reward model.", "Train one first.")
    if wanted.formats and found.data_format not in wanted.formats:
        text = f"{found} holds rows of the form '{found.data_format}'; needed is {' or '.join(wanted.formats)}."
        return None, Problem(loc, "input.format", text, "Choose another data set.")
    return found, None


def find(table: Any, user: Any, key: Any) -> Any:
    """The visible version with this id that is not in the trash, or None."""
    try:
        row = table.objects.visible_to(user).filter(pk=uuid.UUID(str(key))).first()
    except ValueError:
        return None
    holder = getattr(row, "model", None) or getattr(row, "dataset", None)
    return None if getattr(holder, "deleted_at", None) else row


def problems(definition: Definition, rows: Rows) -> Iterator[Problem]:
    """What would make a step fail, with the model that its steps begin from standing for what they will make."""
    for step in definition.steps:
        for found in _of_step(definition, step, rows):
            text = f"Step '{step.title}': {found.message}"
            yield Problem(("steps", step.name, *found.loc), found.code, text, found.hint)


def _of_step(definition: Definition, step: Step, rows: Rows) -> Iterator[Problem]:
    if step.kind not in STEP_KINDS:  # it was taken out of the catalog
        yield Problem(("kind",), "step.kind", f"There is no kind '{step.kind}' any more.", "Change the pipeline.")
        return
    numbers = {name: value for name, value in rows.items() if isinstance(value, int | float)}
    settings = filled(step.settings, numbers)
    wrong = STEP_KINDS[step.kind].problems(settings)
    yield from (Problem(("settings", *found.loc), found.code, found.message, found.hint) for found in wrong)
    if step.kind in _LOOKS and not wrong:
        used = {port: _root(definition, reference, rows) for port, reference in step.uses.items()}
        # What an earlier step will make has its head by then.
        made = not step.uses.get(REWARDS, f"{INPUTS}.").startswith(f"{INPUTS}.")
        for found in _LOOKS[step.kind](settings, used):
            if not (made and found.code == "reward_model.no_head"):
                yield Problem(_place(found.loc), found.code, found.message, found.hint)


def _place(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where a service's argument comes from in a step."""
    if loc[:1] == ("others",):
        return ("uses", *loc[1:])
    port = _PORTS.get(str(loc[0])) if loc else None
    return ("uses", port) if port else ("settings", *loc)


def _of_training(asked: dict[str, Any], used: Rows) -> Iterator[Problem]:
    settings = check(TrainSettings, asked)
    yield from validation.model_problems(used["model"], settings)
    yield from validation.data_problems(used["data"], settings)
    yield from validation.rank_problems(settings)
    yield from evaluable.of_training(settings, used["data"])
    others: dict[str, Any] = {role: used[role] for role in settings.method.takes if role in used}
    yield from validation.other_problems(settings, others, used["model"])


def _of_evaluation(asked: dict[str, Any], used: Rows) -> Iterator[Problem]:
    reward, baseline = used.get(REWARDS), used.get("baseline")
    wish = evaluable.Wish(check(EvaluateSettings, asked), used["model"], None, used["data"], reward, baseline)
    yield from evaluable.problems(
        wish,
        {
            "model_version_id": used["model"],
            "checkpoint_id": None,
            "reward_version_id": reward,
            "baseline_version_id": baseline,
        },
    )


_LOOKS = {"train": _of_training, "evaluate": _of_evaluation}


def _root(definition: Definition, reference: str, rows: Rows) -> Any:
    """The chosen model that ``reference`` goes back to: same tokens, same architecture."""
    source, _, output = reference.partition(".")
    while source != INPUTS:
        source, _, output = definition.step(source).uses["model"].partition(".")
    return rows.get(output)
