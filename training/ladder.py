"""What is given up, one after the other, until a training fits: the cheapest first.

1. Gradient checkpointing: time, nothing else.
2. Smaller micro-batches with more accumulation: time, nothing else.
3. Full fine-tuning: AdamW in 8 bits, then LoRA.
4. Shorter rows: what stands behind is not learnt.
5. Fewer trained blocks.

A base in 4 bits comes last and is another model version: the service looks for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from training.autoconfig import DataFacts, ModelFacts
from training.engine.config.training import TrainSettings, check

LEAST_BUDGET, LEAST_LENGTH, LEAST_LAYERS = 1024, 256, 4
MOST_ACCUMULATION = 4096
Changes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rung:
    """One step down, with all the steps before it."""

    says: str
    settings: TrainSettings


def rungs(settings: TrainSettings, model: ModelFacts, data: DataFacts) -> Iterator[Rung]:
    """Ever smaller trainings, each with one thing less than the one before."""
    for step in (_checkpointed, _halved, _optimizer, _adapted, _shorter, _fewer):
        while (found := step(settings, model, data)) is not None:
            says, changes = found
            settings = check(TrainSettings, {**settings.model_dump(mode="json"), **changes})
            yield Rung(says, settings)


Step = Callable[[TrainSettings, ModelFacts, DataFacts], tuple[str, Changes] | None]


def _checkpointed(settings: TrainSettings, _model: ModelFacts, _data: DataFacts) -> tuple[str, Changes] | None:
    if settings.grad_checkpoint:
        return None
    return "Gradient checkpointing: about a third more time, the same result.", {"grad_checkpoint": True}


def _halved(settings: TrainSettings, _model: ModelFacts, _data: DataFacts) -> tuple[str, Changes] | None:
    steps = 2 * settings.grad_accumulation_steps
    if steps > MOST_ACCUMULATION:
        return None
    if settings.batch_tokens:
        budget = settings.batch_tokens // 2
        if budget < LEAST_BUDGET:
            return None
        says = f"Micro-batches of {budget:,} tokens, {steps} to an update: about the same updates."
        return says, {"batch_tokens": budget, "grad_accumulation_steps": steps}
    if settings.batch_size == 1:
        return None
    size = settings.batch_size // 2
    steps = settings.grad_accumulation_steps * settings.batch_size // size
    rows = "1 row" if size == 1 else f"{size} rows"
    says = f"Micro-batches of {rows}, {steps} to an update: the same updates."
    return says, {"batch_size": size, "grad_accumulation_steps": steps}


def _optimizer(settings: TrainSettings, _model: ModelFacts, _data: DataFacts) -> tuple[str, Changes] | None:
    if settings.adapter.name != "full" or settings.optimizer.name != "adamw":
        return None
    return "AdamW keeps its memory in 8 bits.", {
        "optimizer": {**settings.optimizer.model_dump(mode="json"), "name": "adamw_8bit"}
    }


def _adapted(settings: TrainSettings, _model: ModelFacts, _data: DataFacts) -> tuple[str, Changes] | None:
    if settings.adapter.name != "full":
        return None
    rate = min(1.0, 10 * settings.learning_rate)
    return "LoRA in place of full fine-tuning, with ten times the rate.", {"adapter": "lora", "learning_rate": rate}


def _shorter(settings: TrainSettings, _model: ModelFacts, data: DataFacts) -> tuple[str, Changes] | None:
    length = max(LEAST_LENGTH, settings.max_seq_length // 2)
    if length >= settings.max_seq_length:
        return None
    share = data.cut_share(length)
    lost = f": up to {share:.0%} of them lose their end" if share and settings.method.name != "cpt" else ""
    return f"Rows of at most {length} tokens{lost}.", {"max_seq_length": length}


def _fewer(settings: TrainSettings, model: ModelFacts, _data: DataFacts) -> tuple[str, Changes] | None:
    asked: Any = settings.adapter
    layers = (model.layers if asked.num_layers < 0 else min(asked.num_layers, model.layers)) // 2
    if layers < LEAST_LAYERS:
        return None
    return f"Only the upper {layers} blocks are trained.", {
        "adapter": {**asked.model_dump(mode="json"), "num_layers": layers}
    }
