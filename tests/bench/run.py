"""One training as it was measured: its steps, its start, its memory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer update."""

    seconds: float
    """Wall time from the step before to this one, with everything between."""
    tokens: int
    """Targets trained: neither padding nor masked."""
    epoch: float
    """Epochs done after it."""
    loss: float = 0.0
    """Nats per token, as the trainer counts it."""


@dataclass(frozen=True, slots=True)
class Run:
    """All of one process. ``skipped`` says why there was none; then the rest is empty."""

    row: str
    round: int = 1
    steps: list[Step] = field(default_factory=list)
    start_s: float = 0.0
    """From the process's start to the end of its first step."""
    first_s: float = 0.0
    """The first step alone."""
    before_s: float = 0.0
    """What is computed once before the first step, such as the reference's log-probs."""
    shares: dict[str, float] = field(default_factory=dict)
    """Of a rollout's time, by what it went into: generation, scoring, learning."""
    process_gib: float = 0.0
    """High-water mark of the process's resident memory."""
    device_gib: float = 0.0
    """The most that MLX (or PyTorch) held at a time."""
    others: float = 0.0
    """Share of the machine that other programs took meanwhile, 0 to 1."""
    trainable: int = 0
    """Parameters that were trained."""
    backend: str = ""
    skipped: str = ""

    def rate(self, since: float = 0.0, until: float = float("inf")) -> float | None:
        """Trained tokens per second in the epochs ``since`` to ``until``, all steps included; None for no step."""
        return _rate([s for s in self.steps if since < s.epoch - 1e-9 and s.epoch <= until + 1e-9])

    @property
    def tokens(self) -> int:
        """Trained tokens of all steps."""
        return sum(step.tokens for step in self.steps)

    def step_s(self, since: float = 0.0) -> float | None:
        """Seconds of a step, a mean over the epochs after ``since``; None for no step."""
        found = [step.seconds for step in self.steps if since < step.epoch - 1e-9]
        return sum(found) / len(found) if found else None

    def whole_rate(self, since: float = 0.0) -> float | None:
        """As :meth:`rate`, together with what is computed before the first step."""
        steps = [step for step in self.steps if since < step.epoch - 1e-9]
        seconds = self.before_s + sum(step.seconds for step in steps)
        return sum(step.tokens for step in steps) / seconds if steps and seconds else None

    @property
    def rate_after_first(self) -> float | None:
        """Trained tokens per second of all steps but the first."""
        return _rate(self.steps[1:])

    @property
    def late_rate(self) -> float | None:
        """Trained tokens per second in the second half of the time after the first step."""
        steps = self.steps[1:]
        half, passed = sum(s.seconds for s in steps) / 2, 0.0
        kept = []
        for step in steps:
            if passed >= half:
                kept.append(step)
            passed += step.seconds
        return _rate(kept)

    @property
    def last_loss(self) -> float | None:
        """Mean loss per token of the last epoch, or of what there was of it."""
        if not self.steps:
            return None
        last = [s for s in self.steps if s.epoch > self.steps[-1].epoch - 1 + 1e-9]
        return sum(s.loss * s.tokens for s in last) / max(1, sum(s.tokens for s in last))


def _rate(steps: list[Step]) -> float | None:
    seconds = sum(step.seconds for step in steps)
    return sum(step.tokens for step in steps) / seconds if seconds else None


def append(path: Path, run: Run) -> None:
    """Add ``run`` to a file of JSON lines, so that pieces measured apart make one table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(asdict(run)) + "\n")


def read(path: Path) -> list[Run]:
    """All runs of such a file; none if it is not there."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [Run(**{**row, "steps": [Step(**step) for step in row["steps"]]}) for row in rows]
