"""The same optimizers and schedules by PyTorch and transformers, from settings of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
import transformers
from torch.optim import lr_scheduler

from tests.parity.optimizer_cases import Array, Settings, rate_of

WHERE = {"adafactor": "transformers Adafactor", "muon": "torch.optim.Muon in float32"}
TORCH = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "muon": torch.optim.Muon,
    "adafactor": transformers.Adafactor,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
}
#: Where our defaults are not theirs.
OURS: dict[str, Settings] = {
    "adamw": {"weight_decay": 0.01},
    "sgd": {"momentum": 0.9},
    "muon": {"weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"},
    "adafactor": {"relative_step": False, "scale_parameter": False},
}


def reference(name: str) -> str:
    """Who computed it."""
    return WHERE.get(name, f"torch.optim.{TORCH[name].__name__}")


def scheduler_of(name: str) -> str:
    """Who drew the curve."""
    torchs = {"exponential": "ExponentialLR", "step": "StepLR", "one_cycle": "OneCycleLR", "linear": "LinearLR"}
    return f"torch {torchs[name]}" if name in torchs else "transformers"


def trajectory(settings: Settings, start: Array, gradients: list[Array]) -> list[Any]:
    """The weights after each update."""
    weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
    asked = {**OURS.get(settings["name"], {}), **{k: v for k, v in settings.items() if k != "name"}}
    rate = None if asked.get("relative_step") else rate_of(settings)
    optimizer = TORCH[settings["name"]]([weight], lr=rate, **asked)
    course = []
    # Muon rounds to bfloat16 on its way, which hides the digits that are compared here.
    with patch.object(torch.Tensor, "bfloat16", lambda tensor: tensor.clone()):
        for gradient in gradients:
            weight.grad = torch.from_numpy(gradient.copy())
            optimizer.step()
            course.append(weight.detach().numpy().copy())
    return course


def factors(settings: Settings, total: int) -> list[float]:
    """The rate of each update, of a rate of 1."""
    s = dict(settings)
    name, warmup, end = s.pop("name"), s.get("warmup_steps", 0), s.get("end_ratio", 0.0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made: dict[str, Callable[[], Any]] = {
        "constant": lambda: transformers.get_constant_schedule_with_warmup(optimizer, warmup),
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, end, total),
        "cosine": lambda: transformers.get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, warmup, total, min_lr_rate=end
        ),
        "cosine_with_restarts": lambda: transformers.get_cosine_with_hard_restarts_schedule_with_warmup(
            optimizer, warmup, total, s["cycles"]
        ),
        "polynomial": lambda: transformers.get_polynomial_decay_schedule_with_warmup(
            optimizer, warmup, total, lr_end=end, power=s["power"]
        ),
        "inverse_sqrt": lambda: transformers.get_inverse_sqrt_schedule(optimizer, warmup, s.get("timescale")),
        "exponential": lambda: lr_scheduler.ExponentialLR(optimizer, s["gamma"]),
        "step": lambda: lr_scheduler.StepLR(optimizer, s["every"], s["factor"]),
        "wsd": lambda: transformers.get_wsd_schedule(
            optimizer,
            warmup,
            round(s["decay_ratio"] * total),
            total,
            decay_type=s.get("decay_type", "1-sqrt"),
            min_lr_ratio=end,
        ),
        "one_cycle": lambda: lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=total,
            pct_start=s.get("warmup_ratio", 0.3),
            cycle_momentum=False,
            div_factor=s.get("div_factor", 25.0),
            final_div_factor=s.get("final_div_factor", 1e4),
        ),
    }
    scheduler, rates = made[name](), []
    for update in range(total):
        rates.append(float(scheduler.get_last_lr()[0]))
        optimizer.step()
        if update + 1 < total:
            scheduler.step()
    return rates
