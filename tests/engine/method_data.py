"""Rows that a method can train on, in every normal form, always the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

from tests.engine import runs
from tests.fakes import tiny
from training.engine.catalog.methods import METHODS


def _prompt(i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is {i}?"}]


def _answer(i: int) -> str:
    return f"{i} is " + "so much " * (i * 5 % 7) + f"and {i * i}."


def row(data_format: str, i: int) -> dict[str, Any]:
    """Row ``i`` in the normal form of ``data_format``."""
    if data_format == "preference":
        return {"prompt": _prompt(i), "chosen": _answer(i), "rejected": f"Who knows {i}?", "margin": float(i % 3)}
    if data_format == "kto":
        return {"prompt": _prompt(i), "completion": _answer(i), "label": i % 2 == 0}
    if data_format == "prompts":
        return {"prompt": _prompt(i), "answer": str(i * i)}
    return runs.chat(f"What is {i}?", _answer(i))


def rows(method: str, count: int = 14) -> list[dict[str, Any]]:
    """``count`` rows of very different length for ``method``."""
    return [row(METHODS[method].settings.reads[0], i) for i in range(count)]  # type: ignore[attr-defined]


def data(folder: Path, method: str, **counts: int) -> Path:
    """A data folder for ``method``; 14 rows to train if no split is named."""
    return runs.data(folder, **{name: rows(method, count) for name, count in (counts or {"train": 14}).items()})


#: Letters of a random answer: rewards that differ from answer to answer.
LETTERS = ["regex pattern='[a-i]'", "regex pattern='[j-z]' weight=0.5", "regex pattern='[A-Z]' weight=0.2"]
_QUICK: dict[str, dict[str, Any]] = {
    "grpo": {"rewards": LETTERS, "max_completion_length": 9, "num_generations": 3, "rollout_batch": 4, "beta": 0.05},
    "gkd": {"max_completion_length": 9, "rollout_batch": 4},
    "ppo": {
        "rewards": LETTERS,
        "reward_model_weight": 0,
        "max_completion_length": 9,
        "rollout_batch": 8,
        "num_ppo_epochs": 2,
    },
}


def quick(method: str, **settings: Any) -> dict[str, Any]:
    """``method`` with settings that make a test short; the defaults where they are short already."""
    return {"name": method, **_QUICK.get(method, {}), **settings}


def others(method: str | dict[str, Any], folder: Path) -> dict[str, dict[str, str]]:
    """Further models that ``method`` needs, made in ``folder``, as a configuration names them."""
    settings = {"name": method} if isinstance(method, str) else method
    needs = METHODS[settings["name"]].settings.model_validate(settings).needs  # type: ignore[attr-defined]
    made = {role: {"model": str(tiny.make(folder / role, seed=7))} for role in needs}
    if "reward_model" in made:
        made["reward_model"]["adapter"] = str(scoring(folder / "score"))
    return made


def scoring(folder: Path) -> Path:
    """An adapter that holds nothing but the head of a reward model, for a model of tiny.py."""
    folder.mkdir(parents=True, exist_ok=True)
    head = mx.random.normal((1, 64), key=mx.random.key(3)) / 8
    mx.save_safetensors(str(folder / "adapters.safetensors"), {"score.weight": head})
    about = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": 1, "scale": 1.0, "dropout": 0.0}}
    (folder / "adapter_config.json").write_text(json.dumps(about))
    return folder
