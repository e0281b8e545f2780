"""What speaks against an evaluation, or against the rules of a training, as data, before there is a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry.models import ModelVersion
from training import validation
from training.engine.catalog.formats import FORMATS
from training.engine.catalog.rules import RuleSettings
from training.engine.config.evaluations import EvaluateSettings
from training.engine.config.training import TrainSettings
from training.engine.errors import ConfigError, Problem
from training.engine.rules import reward_modules
from training.models import Checkpoint, DatasetVersion


@dataclass(frozen=True, slots=True)
class Wish:
    """What was found of what was asked for; None where it is not there or was not asked for."""

    settings: EvaluateSettings | None
    version: ModelVersion | None
    checkpoint: Checkpoint | None
    data: DatasetVersion | None
    reward: ModelVersion | None
    baseline: ModelVersion | None


def problems(wish: Wish, asked: dict[str, Any]) -> list[Problem]:
    """All that is wrong; ``asked`` holds the ids as they were given, by the names of the service's arguments."""
    found = _subject(wish, asked) + _others(wish, asked)
    if wish.data is None:
        found += validation.data_problems(None)
    if wish.settings is None:
        return found
    found += rule_problems(wish.settings.rules, ("rules",))
    if wish.data is not None:
        needs = bool(wish.settings.rules) or bool(asked["reward_version_id"])
        found += _rows(wish.settings, wish.data, needs_answers=needs)
    return found


def _subject(wish: Wish, asked: dict[str, Any]) -> list[Problem]:
    """One model: a version, or a checkpoint that is still there."""
    if bool(asked["model_version_id"]) == bool(asked["checkpoint_id"]):
        return [
            _problem(
                "model_version_id",
                "evaluation.one_model",
                "An evaluation looks at one model: a version or a checkpoint.",
                "Give either model_version_id or checkpoint_id.",
            )
        ]
    if asked["checkpoint_id"]:
        if wish.checkpoint is None:
            return [_problem("checkpoint_id", "checkpoint.unknown", "There is no such checkpoint.", "Choose another.")]
        if wish.checkpoint.removed_at is not None or wish.checkpoint.job.model_version is None:
            step = f"The checkpoint at step {wish.checkpoint.step} is not there any more."
            return [_problem("checkpoint_id", "checkpoint.gone", step, "Choose one that is kept.")]
        return []
    return _usable(wish.version, "model_version_id")


def _usable(version: ModelVersion | None, loc: str) -> list[Problem]:
    if version is None:
        return [_problem(loc, "model.unknown", "There is no such model version.", "Choose one of the list.")]
    if not version.is_trainable:
        text = f"{version} is an adapter whose base model is not known."
        return [_problem(loc, "model.not_trainable", text, "Import the adapter again with its base.")]
    return []


def _others(wish: Wish, asked: dict[str, Any]) -> list[Problem]:
    """The reward model, and the baseline that it compares with."""
    found = []
    if asked["reward_version_id"]:
        found += _usable(wish.reward, "reward_version_id")
        found += validation.head_problems(wish.reward, ("reward_version_id",)) if wish.reward else []
    if asked["baseline_version_id"]:
        found += _usable(wish.baseline, "baseline_version_id")
        if not asked["reward_version_id"]:
            found.append(
                _problem(
                    "baseline_version_id",
                    "evaluation.baseline_alone",
                    "Two models are compared by a reward model, and none is given.",
                    "Choose a reward model, or leave the baseline empty.",
                )
            )
    return found


def of_training(settings: TrainSettings, data: DatasetVersion | None) -> list[Problem]:
    """What speaks against the rules of a training: its rewards, and those of its evaluations."""
    rewards: Sequence[RuleSettings] = getattr(settings.method, "rewards", ())
    found = rule_problems(rewards, ("method", "rewards")) + rule_problems(settings.eval_rules, ("eval_rules",))
    found += _reference_problems(rewards, data, ("method", "rewards")) if data is not None else []
    if data is None or not settings.eval_rules:
        return found
    if not data.rows_valid or data.data_format == "text":
        why = "are plain text and ask nothing" if data.rows_valid else "hold none for validation"
        text = f"Rules score answers to held-out rows, and the rows of {data} {why}."
        return [*found, _problem("eval_rules", "evaluation.no_prompts", text, "Leave the rules of evaluations empty.")]
    return found + _reference_problems(settings.eval_rules, data, ("eval_rules",))


def rule_problems(rules: Sequence[RuleSettings], loc: tuple[str, ...]) -> list[Problem]:
    """Functions must be on the operator's list."""
    found = []
    for n, rule in enumerate(rules):
        if module := getattr(rule, "module", ""):
            try:
                reward_modules.find(module)
            except ConfigError as error:
                found.append(Problem((*loc, n), error.code, error.message, error.hint))
    return found


def _reference_problems(rules: Sequence[RuleSettings], data: DatasetVersion, loc: tuple[str, ...]) -> list[Problem]:
    """Rules that compare need a reference answer in every row."""
    family = FORMATS[data.data_format].family if data.data_format in FORMATS else "sft"
    answers = data.report.get("answers")
    known = answers if isinstance(answers, dict) else {}
    lacks = family == "kto" or (family == "prompts" and known.get("answered", 0) < known.get("prompts", 0))
    if not lacks or not any(rule.needs_reference for rule in rules):
        return []
    text = f"Not every row of {data} has a reference answer, and the rule exact_answer compares with one."
    return [Problem(loc, "rule.no_reference", text, "Leave the rule out, or choose another data set.")]


def _rows(settings: EvaluateSettings, data: DatasetVersion, *, needs_answers: bool) -> list[Problem]:
    """The split has rows, and they ask or hold what shall be measured."""
    counts = {"train": data.rows_train, "valid": data.rows_valid, "test": data.rows_test}
    if not counts[settings.split]:
        have = ", ".join(f"{name} ({count})" for name, count in counts.items() if count) or "none"
        text = f"{data} has no rows in the split '{settings.split}'."
        return [_problem("split", "evaluation.no_rows", text, f"Splits with rows: {have}.")]
    family = FORMATS[data.data_format].family if data.data_format in FORMATS else "sft"
    if data.data_format == "text" and needs_answers:
        text = f"The rows of {data} are plain text and ask nothing, so there are no answers to score."
        return [_problem("dataset_version_id", "evaluation.no_prompts", text, "Choose another data set.")]
    if needs_answers and not settings.rows:
        text = "Answers are to be scored, and no row is to be answered."
        return [_problem("rows", "evaluation.no_answers", text, "Let at least one row be answered.")]
    if family == "prompts" and not settings.rows:
        text = f"The rows of {data} hold no answers to read, and none is to be written."
        return [_problem("rows", "evaluation.nothing", text, "Let rows be answered.")]
    return _reference_problems(settings.rules, data, ("rules",))


def _problem(loc: str, code: str, message: str, hint: str) -> Problem:
    return Problem((loc,), code, message, hint)
