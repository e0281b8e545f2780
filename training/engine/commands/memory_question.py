"""The question ``memory``: what a training would hold, whether it fits, and what would make it fit."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine.catalog.methods import METHODS
from training.engine.config.imports import MemoryConfig
from training.engine.config.training import TrainConfig, check
from training.engine.errors import DataError
from training.engine.learning.lender import Lender
from training.engine.learning.method import Method, units
from training.engine.learning.notes import Desk
from training.engine.learning.online import Online
from training.engine.loop.feed import size_of
from training.engine.loop.steps import Steps
from training.engine.machine import device
from training.engine.machine.device import Device
from training.engine.models.recompute import recompute_blocks
from training.engine.models.tokenizer import load as load_tokenizer
from training.engine.optimizers import factory
from training.engine.planning import calibration, memory_facts, memory_plan
from training.engine.planning.calibration import read as read_calibration
from training.engine.planning.memory_plan import MIB, Plan
from training.engine.report import Reporter, Silent
from training.engine.rows import batches, layouts
from training.engine.rows.batches import Rows
from training.engine.rows.examples import Example
from training.engine.rows.layouts import Layout
from training.engine.tuning import adapters
from training.engine.tuning.fuse import load_place

LOOKED_AT = 64  # of the longest lines, so many are tokenised beyond a micro-batch
ACCUMULATION = 4096  # the most that a setting allows
SHORTEST = 128  # tokens; shorter rows are no advice


def run(config: MemoryConfig, _say: Reporter) -> dict[str, Any]:
    """The plan as :meth:`Plan.as_dict` gives it, with ``suggestions`` and, if asked for, what was ``measured``."""
    training = check(TrainConfig, config.training)
    machine = device.set_up(training.seed, training.kernel_cache)
    rows = longest_rows(training)
    lengths = lengths_of(training, rows)
    plan = plan_of(training, machine, lengths)
    answer = {**plan.as_dict(), "backend": machine.backend, "rows": lengths[:3]}
    answer["suggestions"] = list(suggestions(training, machine, lengths, plan))
    if config.measure:
        held = measure(training, machine, rows)
        answer["measured"] = held
        answer["error"] = arrays_of(plan) / held - 1
    return answer


def arrays_of(plan: Plan) -> int:
    """What MLX holds of a plan: all but the program itself."""
    return plan.total - sum(line.bytes for line in plan.lines if line.name == "program")


def plan_of(config: TrainConfig, machine: Device, lengths: list[int]) -> Plan:
    """The plan of ``config`` for rows of these ``lengths``, the longest that there are."""
    facts, layout = memory_facts.look(config, machine)
    kind = calibration.key(machine.backend, facts.model_type, grad_checkpoint=config.grad_checkpoint)
    return memory_plan.make(
        facts,
        memory_facts.work_of_rows(lengths, config, layout, config.ranks),
        device.limit(machine),
        grad_checkpoint=config.grad_checkpoint,
        accumulates=config.grad_accumulation_steps > 1,
        sample_tokens=memory_facts.sample_tokens(config),
        on_host=machine.backend != "cuda",
        calibration=read_calibration(config.kernel_cache, kind),
    )


def lengths_of(config: TrainConfig, rows: list[Example]) -> list[int]:
    """Tokens of the sequences of ``rows`` as they are trained: prompts together with the longest answer."""
    grows = METHODS[config.method.name].load()(config.method).grows
    return [length + grows for length in batches.sequence_lengths(rows)]


def longest_rows(config: TrainConfig) -> list[Example]:
    """The rows that make the largest micro-batch, the longest first; found by their bytes, then tokenised."""
    path, method = config.data / "train.jsonl", METHODS[config.method.name].load()(config.method)
    tokenizer = load_tokenizer(config.model)
    count = config.batch_size + LOOKED_AT
    try:
        with open(path, "rb") as file:
            lines = heapq.nlargest(count, file, key=len)
        rows = [row for line in lines for row in method.pieces(json.loads(line), tokenizer, config.max_seq_length)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "data.unreadable", f"{path.name} cannot be read: {error}.", "Import the data set again."
        ) from None
    return sorted((row for row in rows if method.keeps(row)), key=lambda row: -row.length)


def suggestions(config: TrainConfig, machine: Device, lengths: list[int], plan: Plan) -> Iterator[dict[str, Any]]:
    """What needs less, the most harmless first, each with what the same arithmetic says of it."""
    for label, changes in _changes(config, machine):
        asked = config.model_dump(mode="json", by_alias=True)
        changed = check(TrainConfig, {**asked, **changes})
        shorter = [min(length, changed.max_seq_length) for length in lengths]
        made = plan_of(changed, machine, shorter)
        if made.total < plan.total - MIB:
            saved = plan.total - made.total
            yield {"label": label, "changes": changes, "total": made.total, "saves": saved, "fits": made.fits}


def _changes(config: TrainConfig, machine: Device) -> Iterator[tuple[str, dict[str, Any]]]:
    if not config.grad_checkpoint:
        yield "Gradient checkpointing: about a third more time, the same result", {"grad_checkpoint": True}
    accumulation = 2 * config.grad_accumulation_steps
    if config.batch_tokens and config.batch_tokens >= 2 * SHORTEST and accumulation <= ACCUMULATION:
        half = config.batch_tokens // 2
        yield (
            f"Token budget {half}, accumulation {accumulation}: about the same updates",
            {"batch_tokens": half, "grad_accumulation_steps": accumulation},
        )
    elif config.batch_size > 1:
        half = config.batch_size // 2
        steps = min(ACCUMULATION, config.grad_accumulation_steps * config.batch_size // half)
        yield (
            f"Micro-batch {half}, accumulation {steps}: the same updates",
            {"batch_size": half, "grad_accumulation_steps": steps},
        )
    if config.adapter.name == "full" and config.optimizer.name == "adamw":
        yield "AdamW in 8 bits", {"optimizer": {**config.optimizer.model_dump(), "name": "adamw_8bit"}}
    if config.max_seq_length >= 2 * SHORTEST:
        half = config.max_seq_length // 2
        yield f"Rows cut at {half} tokens: what stands behind is not learnt", {"max_seq_length": half}
    if config.adapter.name == "full" and not machine.is_cpu:
        yield "LoRA in place of full fine-tuning", {"adapter": {"name": "lora"}}
    if (layers := _half_of_the_layers(config)) is not None:
        settings = {**config.adapter.model_dump(mode="json"), "num_layers": layers}
        yield f"Only the upper {layers} blocks are trained", {"adapter": settings}


def _half_of_the_layers(config: TrainConfig) -> int | None:
    asked: Any = config.adapter
    about = json.loads((config.model / "config.json").read_text(encoding="utf-8"))
    count = (about.get("text_config") or about).get("num_hidden_layers", 0)
    trained = count if asked.num_layers < 0 else min(asked.num_layers, count)
    return trained // 2 if trained > 1 else None


def measure(config: TrainConfig, machine: Device, rows: list[Example]) -> int:
    """Bytes at the peak of one real update on the largest micro-batch. Nothing is written."""
    before = mx.get_active_memory()
    loaded = load_place(config.place, config.dtype, machine).loaded
    adapters.apply(loaded.model, config.adapter, quantized=bool(loaded.config.get("quantization")))
    if config.grad_checkpoint:
        recompute_blocks(loaded.model)
    layout, _ = layouts.choose(loaded.model, config.batch_size, config.batch_tokens, is_cpu=machine.is_cpu)
    method = METHODS[config.method.name].load()(config.method)
    method.prepare(loaded.model)
    desk = _desk(config, machine, layout)
    batch = layout.lay(_known(_largest(rows, config), method, loaded.model, config.seed, desk))
    optimizer = factory.build(config, loaded.model)
    optimizer.init(loaded.model.trainable_parameters())
    compiled = not machine.is_cpu
    steps = Steps(loaded.model, method, optimizer, longest=config.max_grad_norm, seam=None, compiled=compiled)
    loaded.model.train()
    mx.eval(optimizer.state)
    mx.reset_peak_memory()
    gradients = None
    for _ in range(min(2, config.grad_accumulation_steps)):
        _, gradients = steps.micro_batch(batch, gradients)
    steps.update(gradients, units(method, batch), config.learning_rate)
    return mx.get_peak_memory() - before


def _desk(config: TrainConfig, machine: Device, layout: Layout) -> Desk:
    """As that of a training, with nothing kept."""
    return Desk(
        layout=layout,
        size=size_of(config),
        say=Silent(),
        check=lambda: None,
        folder=None,
        identity={"model": "", "rows.train": ""},
        lender=Lender(config.others, config.dtype, machine),
        tokenizer=load_tokenizer(config.model),
        max_seq_length=config.max_seq_length,
    )


def _known(rows: list[Example], method: Method, model: nn.Module, seed: int, desk: Desk) -> list[Example]:
    """``rows`` with all that a training computes of them beforehand; answers to them, where those are trained on."""
    model.eval()
    found = method.annotate(model, {"train": Rows(rows, 0, 0)}, desk)["train"].rows
    if isinstance(method, Online):
        found = method.collect(found, (seed,), desk.check).examples[: len(rows)]
    return found


def _largest(rows: list[Example], config: TrainConfig) -> list[Example]:
    """The largest micro-batch of ``rows``. With a budget of tokens the longest one stands for all, the last one cut."""
    if not config.batch_tokens:
        return rows[: config.batch_size]
    longest = rows[0]
    full, rest = divmod(config.batch_tokens - 1, longest.length)
    whole = [longest] * max(1, full)
    each = rest // len(longest.parts)
    return [*whole, longest.shortened(each)] if full and each > 1 else whole
