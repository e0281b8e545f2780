"""What optimizers and schedules are compared on: settings of ours, small tensors, lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
Array = np.ndarray[Any, np.dtype[np.float32]]
Settings = dict[str, Any]

UPDATES = 10
#: The rate that an optimizer is compared at where it is not 0.01.
RATES = {"adadelta": 0.5}

OPTIMIZERS: list[Settings] = [
    {"name": "adamw", "weight_decay": 0.1},
    {"name": "adamw", "betas": [0.8, 0.95], "eps": 1e-4, "weight_decay": 0.0},
    {"name": "adam"},
    {"name": "adam", "weight_decay": 0.1, "amsgrad": True},
    {"name": "adamax", "weight_decay": 0.1},
    {"name": "nadam"},
    {"name": "nadam", "weight_decay": 0.1, "momentum_decay": 0.01},
    {"name": "nadam", "weight_decay": 0.1, "decoupled_weight_decay": True},
    {"name": "radam"},
    {"name": "radam", "betas": [0.9, 0.98], "weight_decay": 0.1},
    {"name": "radam", "betas": [0.9, 0.6], "weight_decay": 0.1, "decoupled_weight_decay": True},
    {"name": "muon"},
    {"name": "muon", "adjust_lr_fn": "original", "nesterov": False, "weight_decay": 0.0, "ns_steps": 3},
    {"name": "adafactor"},
    {"name": "adafactor", "scale_parameter": True, "beta1": 0.9, "weight_decay": 0.1},
    {"name": "adafactor", "scale_parameter": True, "relative_step": True},
    {"name": "adafactor", "relative_step": True, "warmup_init": True, "clip_threshold": 0.5, "decay_rate": -0.6},
    {"name": "sgd", "momentum": 0.0, "weight_decay": 0.1},
    {"name": "sgd", "dampening": 0.3},
    {"name": "sgd", "nesterov": True, "weight_decay": 0.1},
    {"name": "rmsprop"},
    {"name": "rmsprop", "alpha": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.1},
    {"name": "adagrad"},
    {"name": "adagrad", "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5},
    {"name": "adadelta"},
    {"name": "adadelta", "rho": 0.8, "weight_decay": 0.1},
]

#: With a warm-up only the updates after it are compared: ours begins at 1 / (W + 1) of the rate, theirs at 0.
SCHEDULES: list[tuple[Settings, int]] = [
    ({"name": "constant", "warmup_steps": 3}, 10),
    ({"name": "linear", "warmup_steps": 0}, 20),
    ({"name": "linear", "warmup_steps": 0, "end_ratio": 0.25}, 12),
    ({"name": "cosine", "warmup_steps": 3, "end_ratio": 0.0}, 20),
    ({"name": "cosine", "warmup_steps": 3, "end_ratio": 0.1}, 20),
    ({"name": "cosine_with_restarts", "warmup_steps": 2, "cycles": 3}, 25),
    ({"name": "polynomial", "warmup_steps": 3, "power": 2.0, "end_ratio": 0.1}, 20),
    ({"name": "polynomial", "warmup_steps": 0, "power": 0.5}, 10),
    ({"name": "inverse_sqrt", "warmup_steps": 4}, 20),
    ({"name": "inverse_sqrt", "warmup_steps": 3, "timescale": 7}, 20),
    ({"name": "inverse_sqrt", "warmup_steps": 0}, 12),
    ({"name": "exponential", "warmup_steps": 0, "gamma": 0.9, "end_ratio": 1e-3}, 12),
    ({"name": "step", "warmup_steps": 0, "every": 3, "factor": 0.5}, 12),
    ({"name": "wsd", "warmup_steps": 3, "decay_ratio": 0.25}, 20),
    ({"name": "wsd", "warmup_steps": 2, "decay_ratio": 0.5, "decay_type": "linear", "end_ratio": 0.1}, 20),
    ({"name": "wsd", "warmup_steps": 2, "decay_ratio": 0.5, "decay_type": "cosine"}, 20),
    ({"name": "one_cycle"}, 20),
    ({"name": "one_cycle", "warmup_ratio": 0.47, "div_factor": 10.0, "final_div_factor": 100.0}, 17),
]


def rate_of(settings: Settings) -> float:
    """The rate of every update."""
    return RATES.get(settings["name"], 1e-2)


def tensors(*, tall: bool) -> tuple[Array, list[Array]]:
    """A weight (3, 4), or (4, 3), and its gradients: always the same."""
    random = np.random.default_rng(5)
    shape = (4, 3) if tall else (3, 4)
    made = [random.normal(0, 0.5, shape).astype(np.float32) for _ in range(UPDATES + 1)]
    return made[0], made[1:]


def write(name: str, rows: list[dict[str, Any]]) -> None:
    """One case a line."""
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    (GOLDEN / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def read(name: str) -> list[dict[str, Any]]:
    """What :func:`write` wrote."""
    rows: list[dict[str, Any]] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return rows
