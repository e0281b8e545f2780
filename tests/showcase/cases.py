"""What the showcase trains, one method after the other; later ones start from what earlier ones made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Form = Literal["chat", "preference", "kto", "prompts"]
#: Rows of each data set of Python's documentation, and the share that is held out.
ROWS, VALID = 200, 0.12
BASE = "base"


@dataclass(frozen=True, slots=True)
class Watched:
    """A value of the held-out rows that shall move."""

    name: str
    up: bool
    """Whether more is better."""

    def better(self, before: float, after: float) -> bool:
        return after > before if self.up else after < before


@dataclass(frozen=True, slots=True)
class Case:
    """One training."""

    name: str
    label: str
    form: Form
    steps: int
    """Optimizer updates; SHORT takes :data:`SHORT` of them."""
    watched: tuple[Watched, ...]
    """The first one must move the right way, the others are told."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    start: str = BASE
    """What it starts from: "base", "student", or another case's result."""
    others: Mapping[str, str] = field(default_factory=dict)
    curve: str = "train_loss"
    """The metric whose curve is drawn."""


SHORT = 4
_UP = {"reward_margin": True, "reward_accuracy": True, "reward": True, "reward_model": True}
_LORA = {"name": "lora", "rank": 16, "scale": 2.0}


def _watch(*names: str) -> tuple[Watched, ...]:
    return tuple(Watched(f"val_{name}", _UP.get(name, False)) for name in names)


def _pairs(name: str, label: str, *watched: str, rate: float, steps: int = 16, start: str = "sft", **more: Any) -> Case:
    settings = {"method": {"name": name, **more}, "learning_rate": rate, "batch_size": 4}
    return Case(name, label, "kto" if name == "kto" else "preference", steps, _watch(*watched), settings, start)


_ANSWERS = {"max_completion_length": 40, "temperature": 1.0}
_POLICY = {"lr_schedule": "constant", "batch_size": 8, "max_seq_length": 128}

CASES = (
    Case(
        "sft",
        "SFT",
        "chat",
        24,
        _watch("loss"),
        {"learning_rate": 3e-4, "batch_size": 4},
    ),
    Case(
        "distillation",
        "Distillation into 15 layers",
        "chat",
        30,
        _watch("loss"),
        {"method": {"name": "distillation", "top_k": 64}, "learning_rate": 5e-4, "batch_size": 4, "adapter": "full"},
        start="student",
        others={"teacher": "sft"},
    ),
    _pairs("dpo", "DPO", "reward_margin", "reward_accuracy", rate=2e-4),
    _pairs("kto", "KTO", "loss", "reward_accuracy", rate=2e-4),
    _pairs("orpo", "ORPO", "loss", "reward_accuracy", rate=3e-4, start=BASE),
    _pairs("reward_model", "Reward model", "loss", "reward_accuracy", rate=3e-4, steps=24),
    Case(
        "ppo",
        "PPO, rewarded by that model and for an end",
        "preference",
        32,
        _watch("reward", "reward_model", "kl"),
        {
            "method": {
                "name": "ppo",
                "rewards": ["length at_most=32 soft=8"],
                "rollout_batch": 16,
                "num_ppo_epochs": 2,
                "kl_coef": 0.02,
                **_ANSWERS,
            },
            "learning_rate": 3e-4,
            **_POLICY,
        },
        start="sft",
        others={"reward_model": "reward_model"},
        curve="reward",
    ),
    Case(
        "grpo",
        "GRPO, rewarded by rules",
        "prompts",
        12,
        _watch("reward", "answer_tokens"),
        {
            "method": {
                "name": "grpo",
                "rewards": ["exact_answer ignore_punctuation=on", "length at_most=6 soft=30"],
                "num_generations": 4,
                "rollout_batch": 4,
                **_ANSWERS,
            },
            "learning_rate": 3e-4,
            "grad_accumulation_steps": 2,
            **_POLICY,
        },
        start=BASE,
        curve="reward",
    ),
)


def config(case: Case, *, steps: int) -> dict[str, Any]:
    """The settings of one training of ``steps`` updates."""
    return {
        "adapter": _LORA,
        "max_seq_length": 256,
        "iters": steps,
        "steps_per_report": 1,
        "steps_per_eval": steps,
        "save_every": steps,
        "sample_tokens": 0,
        "lr_schedule": {"name": "cosine", "warmup_ratio": 0.1},
        **case.settings,
    }


def select(names: str) -> tuple[Case, ...]:
    """The cases named in ``names``, with commas between, and those they need before; all if it is empty.

    Raises SystemExit for a wrong name.
    """
    known = {case.name: case for case in CASES}
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    if wrong := wanted - known.keys():
        raise SystemExit(f"There is no case {', '.join(sorted(wrong))}. Known are: {', '.join(known)}.")
    for case in reversed(CASES):
        if case.name in wanted:
            wanted |= {need for need in (case.start, *case.others.values()) if need in known}
    return tuple(case for case in CASES if case.name in wanted) if names else CASES
