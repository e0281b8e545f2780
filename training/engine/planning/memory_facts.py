"""What the memory plan has to know of a model: counted on its layers, without reading a weight.

MLX is lazy: a model whose arrays nobody looks at takes no memory, and still knows their shapes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mlx.core as mx
import mlx.optimizers as mo
from mlx import nn
from mlx.utils import tree_flatten

from training.engine.catalog.adapters import Dora
from training.engine.config.training import TrainConfig
from training.engine.generation.answering import ROOM
from training.engine.losses import per_target
from training.engine.machine.device import Device
from training.engine.models import heads
from training.engine.optimizers import factory
from training.engine.planning import memory_plan
from training.engine.planning.memory_plan import Block, Facts, Layout, Work
from training.engine.rows import segments
from training.engine.rows.layouts import Batch, Slots, round_up
from training.engine.rows.segments import ByRow, BySlot
from training.engine.tuning import adapters
from training.engine.tuning.fuse import open_place

GATED = 2  # more arrays of an MLP's inner size that its activation function leaves behind


def look(config: TrainConfig, device: Device) -> tuple[Facts, Layout]:
    """Facts of a training that is asked for. Raises ConfigError, ModelError as the training would."""
    loaded = open_place(config.place, config.dtype, device).loaded
    adapters.put(loaded.model, config.adapter, quantized=bool(loaded.config.get("quantization")))
    optimizer = factory.build(config, loaded.model)
    optimizer.init(loaded.model.trainable_parameters())
    # Whether the family really fits on one axis is tried when it is loaded; nearly all do that can be taught to.
    fits = segments.install(loaded.model)
    layout: Layout = ("flat" if device.is_cpu else "slots") if fits else "padded"
    return of(loaded.model, optimizer, loaded.config, config, device), layout


def of(model: nn.Module, optimizer: mo.Optimizer, about: dict[str, Any], config: TrainConfig, device: Device) -> Facts:
    """Facts of a model with its adapters and its optimizer."""
    trained = dict(tree_flatten(model.trainable_parameters()))
    everything = sum(array.nbytes for _, array in tree_flatten(model.parameters()))
    added = sum(a.nbytes for name, a in trained.items()) if any("lora_a" in name for name in trained) else 0
    text = about.get("text_config") or about
    hidden, count = int(text.get("hidden_size", 0)), int(text.get("num_attention_heads", 1))
    head_is_apart = heads.projection(model, getattr(model, "model", None)) is not None
    chunk = per_target.CHUNK_NUMBERS if device.is_cpu else per_target.CHUNK_NUMBERS_GPU
    keys = int(text.get("num_key_value_heads") or count) * int(text.get("head_dim") or hidden // count)
    return Facts(
        model_type=str(about.get("model_type", "")),
        weights=everything - added,
        others=_others(config, device),
        adapters=added,
        trained=sum(array.size for array in trained.values()),
        optimizer=sum(array.nbytes for _, array in tree_flatten(optimizer.state)),
        number=_number(model, trained),
        hidden=hidden,
        vocabulary=int(text.get("vocab_size", 0)),
        heads=0 if device.backend == "cuda" else count,
        blocks=_blocks(model, config, text, hidden, keys),
        cached_numbers=2 * keys * len(model.layers),
        chunk=chunk if head_is_apart else 0,
        logits_arrays=memory_plan.LOGITS_ARRAYS_CPU if device.is_cpu else memory_plan.LOGITS_ARRAYS,
        kept=1.0 if device.is_cpu else memory_plan.KEPT_GPU,
        again=memory_plan.AGAIN if device.is_cpu else memory_plan.AGAIN_GPU,
    )


def _others(config: TrainConfig, device: Device) -> int:
    """Bytes of the further models that stay in memory, as far as they are given."""
    held = [config.others[role] for role in config.method.holds if role in config.others]
    models = [open_place(place, config.dtype, device).loaded.model for place in held]
    return sum(array.nbytes for model in models for _, array in tree_flatten(model.parameters()))


def largest_rows(lengths: Iterable[int], config: TrainConfig, ranks: int = 1) -> list[int]:
    """Tokens of the sequences of the largest micro-batch that ``lengths`` can make, the longest first."""
    ordered = sorted((int(n) for n in lengths), reverse=True) or [config.max_seq_length]
    if not config.batch_tokens:
        return ordered[: max(1, -(-config.batch_size // ranks)) * config.method.sequences]
    # One token stays free, as in batches.ByTokens.
    full, rest = divmod(-(-config.batch_tokens // ranks) - 1, ordered[0])
    return [ordered[0]] * full + [rest] * (rest > 0) if full else ordered[:1]


def work_of_rows(lengths: Iterable[int], config: TrainConfig, layout: str, ranks: int) -> Work:
    """The largest micro-batch that rows of these ``lengths`` can make for one of ``ranks`` processes."""
    rows = largest_rows(lengths, config, ranks)
    longest = rows[0]
    if layout == "flat":
        return Work.of_rows(rows, segments.STEP)
    if layout == "padded":
        return Work.of_places(len(rows), longest)
    width, tokens = round_up(longest), round_up(sum(rows) + 1)
    if config.batch_tokens and sum(rows) < config.batch_tokens:
        tokens = config.batch_tokens
    places = Slots(len(rows), config.batch_tokens).count(len(rows), width, sum(rows))
    return Work.of_places(places, width, tokens)


def sample_tokens(config: TrainConfig) -> int:
    """Tokens of all sample prompts and answers together, or of a rollout's answers, at most."""
    rollout: Any = config.method
    if rollout.online:
        rows = rollout.rollout_batch * getattr(rollout, "num_generations", 1)
        return min(ROOM, rows * (config.max_seq_length + rollout.max_completion_length))
    prompts = 3 if config.sample_prompts is None else len(config.sample_prompts)
    return prompts * min(config.max_seq_length, 4 * config.sample_tokens) if config.sample_tokens else 0


def work_of_batch(batch: Batch) -> Work:
    """What is computed for ``batch``."""
    if isinstance(batch.cuts, ByRow):
        return Work.of_rows(batch.cuts.lengths, segments.STEP)
    rows, width = batch.cuts.slots.shape if isinstance(batch.cuts, BySlot) else batch.ids.shape
    return Work.of_places(rows, width, tokens=batch.ids.size)


def _number(model: nn.Module, trained: dict[str, mx.array]) -> int:
    """Bytes of an activation's number: those of the base's, which adapters follow."""
    base = [a for name, a in tree_flatten(model.parameters()) if name not in trained or "lora_" not in name]
    floats = [a for a in base if mx.issubdtype(a.dtype, mx.floating)]
    return max(floats, key=lambda a: a.size).dtype.size if floats else 4


def _blocks(model: nn.Module, config: TrainConfig, text: dict[str, Any], hidden: int, keys: int) -> tuple[Block, ...]:
    experts = int(text.get("num_experts_per_tok") or 1)
    found, trains = [], False
    for block in model.layers:
        trains = trains or bool(tree_flatten(block.trainable_parameters()))
        found.append(Block(2 * hidden + keys + _kept(block, config, experts), trains))
    return tuple(found)


def _kept(block: nn.Module, config: TrainConfig, experts: int) -> int:
    """Numbers for each token that the linear layers of ``block`` and what lies between them leave behind.

    A layer's output is the next one's input; the last of each part goes into the residual stream, which
    keeps nothing of it. Inputs are kept only for layers that are trained.
    """
    parts: dict[str, list[tuple[int, int, nn.Module]]] = {}
    for name, module in block.named_modules():
        if (size := _size(module)) is not None and not name.endswith((".linear", ".embedding")):
            parts.setdefault(name.rpartition(".")[0], []).append((*size, module))
    total = 0
    for layers in parts.values():
        times = experts if any(_is_expert(module) for *_, module in layers) else 1
        inner = max((wide for _, wide, _ in layers[:-1]), default=0)
        is_mlp = len(layers) <= 3 and inner > 0
        kept = sum(wide for _, wide, _ in layers[:-1]) + (GATED * inner if is_mlp else 0)
        shared = {(narrow, place == len(layers) - 1) for place, (narrow, _, m) in enumerate(layers) if _trains(m)}
        kept += sum(narrow for narrow, _ in shared)
        total += times * (kept + sum(_added(module, narrow, wide, config) for narrow, wide, module in layers))
    return total


def _added(module: nn.Module, narrow: int, wide: int, config: TrainConfig) -> int:
    """What an adapter leaves behind beside its input."""
    if "lora_a" not in module:
        return 0
    settings: Any = config.adapter
    dropped = narrow + narrow // 4 if settings.dropout else 0
    return int(settings.rank) + dropped + (wide if isinstance(settings, Dora) else 0)


def _trains(module: nn.Module) -> bool:
    return bool(tree_flatten(module.trainable_parameters()))


def _is_expert(module: nn.Module) -> bool:
    return bool(_weight(module).ndim == 3)


def _weight(module: nn.Module) -> mx.array:
    inner = module.get("linear", module)
    weight: mx.array = inner["weight"]
    return weight


def _size(module: nn.Module) -> tuple[int, int] | None:
    """(in, out) of a linear layer, packed or adapted; None for anything else."""
    inner = module.get("linear", module)
    weight = inner.get("weight") if isinstance(inner, nn.Module) else None
    if not isinstance(weight, mx.array) or weight.ndim < 2:
        return None
    narrow = weight.shape[-1] * 32 // inner.bits if "scales" in inner else weight.shape[-1]
    return narrow, weight.shape[-2]
