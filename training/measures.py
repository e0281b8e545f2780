"""What the figures of evaluations are called on pages, how they are written, and which way is better."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from training.engine.catalog.rules import RULES

Unit = Literal["nats", "number", "share", "speed", "gib", "tokens"]
_NUMBERED = re.compile(r"^(.+)_(\d+)$")


@dataclass(frozen=True, slots=True)
class Measure:
    """``better``: whether less or more is better; "" where neither is."""

    name: str
    label: str
    unit: Unit
    better: Literal["less", "more", ""] = ""

    def best(self, values: Iterable[float]) -> float:
        """The best of at least one value."""
        return min(values) if self.better == "less" else max(values)


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("loss", "Loss", "nats", "less"),
        Measure("perplexity", "Perplexity", "number", "less"),
        Measure("rule_score", "Score by rules", "number", "more"),
        *(
            # What a function of a person's own returns is no share.
            Measure(row.name, row.label, "number" if row.name == "python_function" else "share", "more")
            for row in RULES
        ),
        Measure("reward", "Reward", "number", "more"),
        Measure("reward_baseline", "Reward of the baseline", "number"),
        Measure("win_rate", "Win rate", "share", "more"),
        Measure("win_rate_low", "Win rate, low end", "share"),
        Measure("win_rate_high", "Win rate, high end", "share"),
        Measure("reward_accuracy", "Reward accuracy", "share", "more"),
        Measure("reward_margin", "Reward margin", "number", "more"),
        Measure("tokens_per_second", "Written tokens / s", "speed", "more"),
        Measure("read_tokens_per_second", "Read tokens / s", "speed", "more"),
        Measure("answer_tokens", "Tokens of an answer", "number"),
        Measure("cut_share", "Answers cut off", "share", "less"),
        Measure("loss_tokens", "Tokens of the loss", "tokens"),
        Measure("peak_memory_gb", "Peak memory", "gib", "less"),
    )
}


def of(name: str) -> Measure:
    """The measure ``name``; a second rule of a kind is named regex_2. Unknown ones are plain numbers."""
    if name in MEASURES:
        return MEASURES[name]
    found = _NUMBERED.match(name)
    if found and found[1] in RULES:
        kind = MEASURES[found[1]]
        return Measure(name, f"{kind.label} {found[2]}", kind.unit, kind.better)
    return Measure(name, name.replace("_", " "), "number")


def shown(values: Mapping[str, Any]) -> list[tuple[Measure, Any]]:
    """The figures in the order of :data:`MEASURES`, those of further rules behind their first."""
    order = list(MEASURES)

    def place(name: str) -> tuple[int, str]:
        base = name if name in MEASURES else (found[1] if (found := _NUMBERED.match(name)) else "")
        return (order.index(base) if base in MEASURES else len(order), name)

    return [(of(name), values[name]) for name in sorted(values, key=place)]
