"""How long a run is, and how often it looks back and saves."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.engine.config.training import TrainConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """Lengths of a run, in optimizer updates, settled when the data is known."""

    steps: int
    eval_every: int
    save_every: int

    @classmethod
    def of(cls, config: TrainConfig, micro_per_epoch: int) -> Plan:
        """Fill in what the configuration left open: 3 epochs, ten evaluations, ten checkpoints."""
        epochs = config.epochs if config.epochs is not None else 3.0
        steps = config.iters or max(1, round(epochs * micro_per_epoch / config.grad_accumulation_steps))
        tenth = max(1, math.ceil(steps / 10))
        return cls(steps, config.steps_per_eval or tenth, config.save_every or tenth)
