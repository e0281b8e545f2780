"""The command ``train``: from a configuration to a trained adapter.

Brings together model, data, method and loop; none of them knows the others.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine.catalog.methods import METHODS
from training.engine.config.training import TrainConfig
from training.engine.errors import DataError, ModelError
from training.engine.folders import places
from training.engine.generation.samples import Sampler
from training.engine.learning.lender import Lender
from training.engine.learning.method import Method
from training.engine.learning.notes import Desk
from training.engine.loop.distributed import Group
from training.engine.loop.feed import size_of
from training.engine.loop.memory_watch import MemoryWatch
from training.engine.loop.trainer import Trainer
from training.engine.machine import blas, device
from training.engine.machine.device import Device
from training.engine.models.loading import Loaded
from training.engine.models.neftune import add_noise
from training.engine.models.recompute import recompute_blocks
from training.engine.models.tokenizer import Tokenizer
from training.engine.models.tokenizer import load as load_tokenizer
from training.engine.models.unpack import unpack_for_products
from training.engine.planning import memory_facts
from training.engine.rows import batches, layouts, token_cache
from training.engine.rows.batches import Rows
from training.engine.rows.layouts import Layout
from training.engine.run.session import Session
from training.engine.scores.examiner import Examiner
from training.engine.tuning import adapters
from training.engine.tuning.fuse import load_place

MODEL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
SPLITS = ("train", "valid", "test")


def run(config: TrainConfig, session: Session, group: Group | None = None) -> dict[str, Any]:
    """Train as ``config`` says; returns what the last word of the journal holds.

    ``group``: the ranks that train together; None for this process alone.
    """
    group = group or Group(session)
    machine = _set_up(config, session, group)
    tokenizer = load_tokenizer(config.model)
    loaded, layout = _model(config, machine, session, group)
    method: Method = METHODS[config.method.name].load()(config.method)
    method.prepare(loaded.model)
    splits = {name: _read(name, config, tokenizer, method, session) for name in SPLITS}
    _refuse_empty(splits["train"], config)
    _refuse_foreign_tokens(splits, loaded.config)
    facts = identity(config, layout)
    group.agree(facts)
    loaded.model.eval()  # what is new is as if it were trained: dropout on
    splits = method.annotate(loaded.model, splits, _desk(config, layout, tokenizer, machine, session))
    sampler = Sampler.of(tokenizer, config.data, config.sample_prompts, config.sample_tokens)
    examiner = Examiner.of(config, tokenizer)
    watch = MemoryWatch(config, session, machine)
    trainer = Trainer(
        config,
        session,
        loaded.model,
        method,
        layout=layout,
        splits=splits,
        sampler=sampler,
        examiner=examiner,
        identity=facts,
        group=group,
        watch=watch,
        compiled=not machine.is_cpu,
    )
    facts_of_memory = memory_facts.of(loaded.model, trainer.optimizer, loaded.config, config, machine)
    lengths = [length + method.grows for length in batches.sequence_lengths(splits["train"].rows)]
    watch.expect(facts_of_memory, lengths, layout.name, group.size)
    trainer.resume()
    result = trainer.fit()
    return {**result, "model": str(config.model), "machine": machine.as_dict()}


def _equip(model: nn.Module, config: TrainConfig, machine: Device) -> None:
    """Teach the layers what the settings and the machine ask of them."""
    if machine.backend == "cuda":
        unpack_for_products(model)
    if config.grad_checkpoint:
        recompute_blocks(model)
    if config.neftune_noise_alpha:
        add_noise(model, config.neftune_noise_alpha)


def _model(config: TrainConfig, machine: Device, session: Session, group: Group) -> tuple[Loaded, Layout]:
    """The model with all that is trained on it, and how rows lie for it."""
    loaded = load_place(config.place, config.dtype, machine).loaded
    mx.random.seed(config.seed)
    adapters.apply(loaded.model, config.adapter, quantized=bool(loaded.config.get("quantization")))
    if machine.backend == "cuda":
        unpack_for_products(loaded.model)
    if config.grad_checkpoint:
        recompute_blocks(loaded.model)
    if config.neftune_noise_alpha:
        add_noise(loaded.model, config.neftune_noise_alpha)
    room = config.batch_tokens and group.room(config.batch_tokens, config.max_seq_length)
    most = group.room(config.batch_size) * config.method.sequences
    layout, why = layouts.choose(loaded.model, most, room, is_cpu=machine.is_cpu)
    if why:
        session.log(f"Rows are padded, because this architecture cannot share one token axis: {why}.", "warning")
    return loaded, layout


def _set_up(config: TrainConfig, session: Session, group: Group) -> Device:
    """The machine, made ready; what is special about it is said."""
    session.phase("load")
    machine = device.set_up(config.seed, config.kernel_cache, deterministic=config.deterministic)
    session.journal.write("machine", **machine.as_dict(), ranks=group.size, mlx=version("mlx"))
    if not machine.deterministic:
        session.log(
            f"On {machine.name} sums may come in another order each time: a repeated or resumed training can differ "
            "in the last digits."
            + (" The setting 'Repeatable on NVIDIA' prevents it." if machine.backend == "cuda" else "")
        )
    if slow := blas.note():
        session.log(slow, "warning")
    return machine


def _desk(config: TrainConfig, layout: Layout, tokenizer: Tokenizer, machine: Device, session: Session) -> Desk:
    """Where the method may look at all rows before the training."""
    keys = {f"rows.{name}": token_cache.key(config, config.data / f"{name}.jsonl") for name in SPLITS}
    # What is computed depends in its last bits on number format, machine and rows beside it.
    decides = [places.digest(config.place), config.dtype, machine.as_dict(), layout.name, config.batch_size]
    return Desk(
        layout=layout,
        size=size_of(config),
        say=session,
        check=session.check,
        folder=config.kernel_cache.parent / "notes" if config.kernel_cache is not None else None,
        identity={"model": json.dumps([*decides, config.batch_tokens]), **keys},
        lender=Lender(config.others, config.dtype, machine),
        tokenizer=tokenizer,
        max_seq_length=config.max_seq_length,
    )


def identity(config: TrainConfig, layout: Layout) -> dict[str, str]:
    """Digests of what must stay the same for a checkpoint to fit: model, data, adapter and order of rows."""
    order = {name: getattr(config, name) for name in ("batch_size", "batch_tokens", "seed", "max_seq_length")}
    order["sorts"] = layout.sorts
    if config.neftune_noise_alpha:
        order["neftune_noise_alpha"] = config.neftune_noise_alpha
    asked = config.model_dump(mode="json", include={"adapter", "method", "optimizer", "lr_schedule", "dtype"})
    files = [*(config.model / name for name in MODEL_FILES), *sorted(config.model.glob("*.safetensors"))]
    start = places.adapter_digest(config.adapter_path).encode() if config.adapter_path is not None else b""
    return {
        # Two models of one architecture have the same config.json, so the weights' files count, too.
        "model": _digest(b"".join(p.name.encode() + _tail(p) for p in files) + start),
        "data": _digest(b"".join(_tail(config.data / f"{name}.jsonl") for name in SPLITS)),
        "settings": _digest(json.dumps({**asked, **order}, sort_keys=True).encode()),
    }


def _read(name: str, config: TrainConfig, tokenizer: Tokenizer, method: Method, session: Session) -> Rows:
    session.phase("tokenize", detail=name)
    path = config.data / f"{name}.jsonl"
    folder = config.kernel_cache.parent / "tokens" if config.kernel_cache is not None else None
    rows = token_cache.through(
        folder,
        token_cache.key(config, path),
        lambda: batches.read(
            path,
            lambda row: method.pieces(row, tokenizer, config.max_seq_length),
            lambda _: session.check(),
            method.keeps,
        ),
    )
    if rows.left_out:
        session.log(f"{rows.left_out} rows of {path.name} train nothing and are left out.", "warning")
    if rows.cut:
        session.log(f"{rows.cut} rows of {path.name} are cut at {config.max_seq_length} tokens.", "warning")
    if rows.rows:
        # Prompts teach nothing by themselves: what is trained is written to them later.
        trained = f", {rows.trained_tokens} of them trained" if rows.trained_tokens else ""
        session.log(f"{path.name}: {len(rows.rows)} rows, {int(rows.lengths.sum())} tokens{trained}.")
    return rows


def _refuse_empty(rows: Rows, config: TrainConfig) -> None:
    if rows.rows:
        return
    if rows.left_out:
        raise DataError(
            "data.nothing_trained",
            f"None of the {rows.left_out} rows has a token to train within {config.max_seq_length} tokens.",
            "Raise the sequence length, or train on all tokens.",
        )
    raise DataError(
        "data.empty", f"There are no rows in {config.data.name}/train.jsonl.", "Import a data set with rows."
    )


def _refuse_foreign_tokens(splits: dict[str, Rows], config: dict[str, Any]) -> None:
    """MLX reads foreign memory for a token beyond the table of embeddings, without an error."""
    text = config.get("text_config") or {}
    size = config.get("vocab_size") or text.get("vocab_size")
    parts = (part for rows in splits.values() for row in rows.rows for part in row.parts)
    largest = max((max(part.ids) for part in parts), default=0)
    if isinstance(size, int) and largest >= size:
        raise ModelError(
            "model.tokenizer_too_large",
            f"The tokenizer makes token {largest}, and the model knows only {size} tokens.",
            "Tokenizer and weights do not belong together: import the model again.",
        )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tail(path: Path) -> bytes:
    """Size and last 4 KiB of a file: enough to notice another data set without reading gigabytes."""
    if not path.exists():
        return b"-"
    with open(path, "rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - 4096))
        return str(size).encode() + file.read()
