"""Scores by a function of a person's own, from a file that the operator allows."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.engine.catalog.rules import PythonFunction as Settings
from training.engine.errors import ConfigError, DataError
from training.engine.rules import reward_modules
from training.engine.rules.rule import Messages, Rule

_LIKE = "Write it like this: def reward(prompt, answer, reference) -> float."


class PythonFunction(Rule):
    """What ``function(prompt, answer, reference)`` returns.

    Raises ConfigError as :func:`reward_modules.find`, and ``rule.module_broken``, ``rule.no_function``; when
    scoring, DataError ``rule.function_failed``, ``rule.no_number``.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._function = _load(reward_modules.find(settings.module), settings.function)

    def score(self, prompt: Messages, answer: str, reference: str | None, tokens: int) -> float:
        del tokens
        name = f"{self.settings.function} of {self.settings.module}"
        try:
            value = self._function(copy.deepcopy(prompt), answer, reference)
        except Exception as error:  # whatever somebody else's code raises
            raise DataError(
                "rule.function_failed",
                f"The function {name} failed: {type(error).__name__}: {str(error)[:300]}.",
                "Mend the function; it must return a number for every answer.",
            ) from error
        if isinstance(value, bool):
            return float(value)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError("rule.no_number", f"The function {name} returned {value!r:.80}, no finite number.", _LIKE)
        return float(value)


def _load(path: Path, name: str) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location(f"mlxp_rewards_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "a file that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(
            "rule.module_broken",
            f"The module {path.name} cannot be loaded: {type(error).__name__}: {str(error)[:300]}.",
            "Mend the file.",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError("rule.no_function", f"The module {path.name} has no function '{name}'.", _LIKE)
    return function
