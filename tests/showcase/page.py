"""Writes docs/showcase.md out of what the runs have told."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.bench import page as bench_page
from tests.bench.table import number
from tests.showcase.cases import Case

PAGE = Path(__file__).resolve().parents[2] / "docs" / "showcase.md"
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 24  # points of a curve
INTRODUCTION = """# Showcase

Every method, trained for real on a CPU and written down by the run itself. Each training is short: it shows that the
method works, not how far it can go. The run fails if a value does not move the right way.
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """One training as it was."""

    case: Case
    steps: int
    before: dict[str, float]
    """Values of the held-out rows, before the first step and after the last."""
    after: dict[str, float]
    seconds: float
    """Of the whole process."""
    tokens_per_second: float
    peak_gib: float
    curve: list[float] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=dict)
    """Of a rollout's time: generation, scoring, learning."""

    @property
    def problem(self) -> str:
        """What is wrong with it, or ""."""
        first = self.case.watched[0]
        before, after = self.before.get(first.name), self.after.get(first.name)
        if before is None or after is None:
            return f"{self.case.name}: there is no {first.name} before and after."
        if not first.better(before, after):
            return f"{self.case.name}: {first.name} went the wrong way, {before:.4f} → {after:.4f}."
        return ""


def sparkline(values: list[float], width: int = WIDTH) -> str:
    """A curve as one line of text: means of equal parts, from the lowest to the highest."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low) * (len(BARS) - 1)) if high > low else 0] for mean in means)


def _row(shown: Shown) -> str:
    case = shown.case
    values = [
        f"`{one.name}` {shown.before[one.name]:.3g} → **{shown.after[one.name]:.3g}**"
        for one in case.watched
        if one.name in shown.before and one.name in shown.after
    ]
    cells = [
        case.label,
        case.form,
        f"{shown.steps}",
        "<br>".join(values),
        f"`{case.curve}` {sparkline(shown.curve)}",
        number(shown.tokens_per_second),
        f"{shown.peak_gib:.2f} GiB",
        f"{shown.seconds:.0f} s",
    ]
    return "| " + " | ".join(cells) + " |"


def _shares(shown: list[Shown]) -> str:
    lines = ["| | generation | scoring | learning |", "|---|---|---|---|"]
    for one in shown:
        if one.shares:
            cells = " | ".join(
                f"{100 * one.shares.get(name, 0):.0f} %" for name in ("generation", "scoring", "learning")
            )
            lines.append(f"| {one.case.label} | {cells} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def markdown(shown: list[Shown], command: str) -> str:
    """The whole page."""
    head = "| method | rows | updates | held-out rows, before → after | curve | tokens/s | peak, process | time |"
    table = "\n".join([head, "|---" * 8 + "|", *map(_row, shown)])
    total = sum(one.seconds for one in shown)
    parts = [
        INTRODUCTION.strip(),
        bench_page.heading(command),
        "SmolLM2-135M-Instruct in float32; data sets of Python's own documentation, made on the machine "
        "([formats](formats.md)). DPO, KTO, reward model and PPO start from the SFT adapter, distillation from every "
        "other layer of the base with the SFT model as teacher, GRPO and ORPO from the base.",
        table,
    ]
    if shares := _shares(shown):
        parts += ["Where the time of a rollout goes:", shares]
    parts.append(
        f"All of it took {total / 60:.0f} minutes. `make showcase` runs it again and writes this page; `SHORT=1` takes "
        "a few minutes and only prints it. Cases stand in `tests/showcase/cases.py`."
    )
    return "\n\n".join(parts) + "\n"
