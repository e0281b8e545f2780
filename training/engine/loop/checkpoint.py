"""Checkpoints: a folder that is complete or does not exist, from which a training goes on bit for bit.

Written beside, flushed to the disk, its manifest with all hashes last, then renamed. A folder
without a manifest does not count; one whose hashes do not fit is passed over for the one before.

Each holds the adapter in stock mlx-lm's form (``adapters.safetensors``, ``adapter_config.json``) and
what it takes to continue: the optimizer's state, MLX's random key, the half-done accumulation and
the place in the data.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from training.engine import ENGINE_VERSION, SCHEMA
from training.engine.errors import ModelError, StorageError
from training.engine.folders import places
from training.engine.folders.places import Place
from training.engine.machine import random_stream
from training.engine.rows.batches import Cursor
from training.engine.rows.examples import Array
from training.engine.run.rundir import write_json
from training.engine.tuning import adapters

MANIFEST = "manifest.json"
TRAINED = "trained.safetensors"  # the adapter as it is trained, where that is not stock mlx-lm's form
STATE, OPTIMIZER, TRAINER = "state.safetensors", "optimizer.safetensors", "trainer.json"
_BROKEN = "broken-"
_GRAD, _FEED = "grad.", "feed."  # before the names in the state file
_NAME = re.compile(r"^\d{7,}(-\d+)?$")


@dataclass(slots=True)
class Position:
    """Where a training stands, apart from its arrays. All of it survives a restart exactly."""

    step: int = 0
    micro: int = 0
    """Micro-batches already summed up for the next update."""
    cursor: Cursor = field(default_factory=Cursor)
    feed: dict[str, Any] = field(default_factory=dict)
    """What the feed keeps beside the cursor; see online.py."""
    loss_sum: float = 0.0
    """Summed loss of the half-done update, nats."""
    tokens: int = 0
    """Trained tokens of the half-done update."""
    units: int = 0
    """What the half-done update's loss is a mean over: tokens or examples."""
    sums: dict[str, float] = field(default_factory=dict)
    """The method's further terms, summed over the half-done update."""
    scale: list[float] = field(default_factory=list)
    """Of the loss, and the good updates since it changed; empty where nothing is scaled."""
    report_loss: float = 0.0
    report_tokens: int = 0
    report_units: int = 0
    report_sums: dict[str, float] = field(default_factory=dict)
    report_seconds: float = 0.0
    report_steps: int = 0
    trained_tokens: int = 0
    """Trained tokens so far."""
    last_eval: int = -1
    """Step of the last complete evaluation."""
    best_loss: float | None = None
    """The best validation loss, or what the method's goal is in its place (see standing.py); the same below."""
    best_step: int = -1
    bad_evals: int = 0
    """Evaluations since the best one."""
    first_loss: float | None = None
    """Validation loss before training."""
    val_loss: float | None = None
    first_test: float | None = None
    test_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """A published checkpoint."""

    path: Path
    step: int
    bytes: int
    sha256: str
    """Of the manifest, which holds the sha256 of every other file."""


def name_of(where: Position) -> str:
    """Folder name of a checkpoint at this place: the step, and the micro-batch if it is within one."""
    return f"{where.step:07d}" + (f"-{where.micro}" if where.micro else "")


@dataclass(frozen=True, slots=True)
class Content:
    """What goes into a checkpoint beside the place it is of."""

    weights: dict[str, mx.array]
    config: dict[str, Any]
    """Of the adapter, as stock mlx-lm reads it."""
    optimizer: Any
    gradients: Any
    """Of a half-done update, or None."""
    feed: dict[str, Array]
    """What the feed has to keep; see online.py."""
    start: Place | None = None
    """The model that was trained; an adapter that it began with is laid beside the new one."""


def save(folder: Path, where: Position, content: Content, identity: dict[str, str]) -> Path:
    """Publish a checkpoint under ``folder`` and return it. Raises StorageError when the disk refuses.

    ``identity`` are the digests (model, data, settings) that a continuation must agree with.
    """
    name = name_of(where)
    beside, target = folder / f".part-{name}", folder / name
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True, mode=0o700)
        _lay_down(beside, where, content)
        files = {path.name: _file_facts(path) for path in sorted(beside.iterdir())}
        manifest = {
            "schema": SCHEMA,
            "engine": ENGINE_VERSION,
            "step": where.step,
            "identity": identity,
            "files": files,
        }
        write_json(beside / MANIFEST, manifest | {"digest": _digest(manifest)})
        _sync(beside)
        if target.exists():  # the same place again: the new one stands for it
            remove(target)
        os.replace(beside, target)
        _sync(folder)
    except (OSError, RuntimeError) as error:
        # What was written so far is of no use, and its space may be what the journal's last word needs.
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            "storage.checkpoint",
            f"The checkpoint of step {where.step} could not be written: {error}.",
            "Free some disk space, then resume: the checkpoint before it is whole.",
        ) from error
    return target


def _lay_down(folder: Path, where: Position, content: Content) -> None:
    """All files but the manifest."""
    config, start = content.config, content.start
    stock = adapters.stock_form(content.weights, config)
    mx.save_safetensors(str(folder / adapters.WEIGHTS), stock, {"format": "mlx"})
    if stock is not content.weights:
        mx.save_safetensors(str(folder / TRAINED), content.weights)
    if start is not None:
        if start.adapter is not None:
            config = places.put_before(folder, config, start.adapter)
        config = {**config, "base_weights": places.weights_digest(start.model)}
    write_json(folder / adapters.CONFIG, config)
    mx.save_safetensors(str(folder / OPTIMIZER), dict(tree_flatten(content.optimizer.state)))
    state = {"rng": random_stream.key()} | {f"{_GRAD}{k}": v for k, v in tree_flatten(content.gradients or {})}
    state |= {f"{_FEED}{name}": mx.array(value) for name, value in content.feed.items()}
    mx.save_safetensors(str(folder / STATE), state)
    write_json(folder / TRAINER, asdict(where))


def facts_of(path: Path) -> Saved:
    """What the journal says of the published checkpoint ``path``."""
    raw = (path / MANIFEST).read_bytes()
    manifest = json.loads(raw)
    size = sum(int(facts["bytes"]) for facts in manifest["files"].values())
    return Saved(path, int(manifest["step"]), size, hashlib.sha256(raw).hexdigest())


def listed(folder: Path) -> list[Path]:
    """Published checkpoints, the newest first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if _NAME.match(p.name) and (p / MANIFEST).is_file()]
    return sorted(found, key=place_of, reverse=True)


def place_of(path: Path) -> tuple[int, int]:
    """Step and micro-batch of a published checkpoint."""
    step, _, micro = path.name.partition("-")
    return int(step), int(micro or 0)


def newest(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files are what its manifest says; ``tell`` hears about others."""
    for path in listed(folder):
        fault = fault_of(path)
        if fault is None:
            return path
        tell(f"Checkpoint {path.name} is passed over: {fault}")
    return None


def fault_of(path: Path) -> str | None:
    """What is wrong with a published checkpoint; None when every hash fits."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        if _digest({k: v for k, v in manifest.items() if k != "digest"}) != manifest["digest"]:
            return "its manifest has changed since it was written."
        for name, facts in manifest["files"].items():
            if _file_facts(path / name) != facts:
                return f"{name} has changed since it was written."
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing."
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        return f"its manifest cannot be read ({error})."
    return None


def restore(path: Path, model: Any, optimizer: Any, identity: dict[str, str]) -> tuple[Position, Any, dict[str, Array]]:
    """Put a checkpoint into ``model`` and ``optimizer``; returns the place, the half-summed gradients, the feed's own.

    Raises ModelError when it belongs to another model, data set or set of weights.
    """
    manifest = json.loads((path / MANIFEST).read_text())
    for what, digest in identity.items():
        if manifest["identity"].get(what) != digest:
            raise ModelError(
                f"checkpoint.other_{what}",
                f"Checkpoint {path.name} was made with another {what}.",
                f"Start a new job to train with this {what}.",
            )
    trained = path / TRAINED
    weights = _arrays(trained if trained.exists() else path / adapters.WEIGHTS)
    own = adapters.trained_weights(model)
    if set(weights) != set(own) or any(weights[k].shape != own[k].shape for k in own):
        raise ModelError(
            "checkpoint.other_shape",
            f"Checkpoint {path.name} holds other weights than this training has.",
            "Start a new job: adapter, rank and layers cannot change on resuming.",
        )
    model.load_weights(list(weights.items()), strict=False)
    optimizer.state = tree_unflatten(list(_arrays(path / OPTIMIZER).items()))
    # Flattened trees lose their empty branches; the gradients to come have them.
    optimizer.init(model.trainable_parameters())
    state = _arrays(path / STATE)
    random_stream.put(state.pop("rng"))
    half = [(k.removeprefix(_GRAD), v) for k, v in state.items() if k.startswith(_GRAD)]
    gradients = tree_unflatten(half) if half else None
    feed = {k.removeprefix(_FEED): np.array(v) for k, v in state.items() if k.startswith(_FEED)}
    row = json.loads((path / TRAINER).read_text())
    row["cursor"] = Cursor(**row["cursor"])
    mx.eval(model.parameters(), optimizer.state, gradients or [])
    known = {f.name for f in fields(Position)}  # a later version may know more
    return Position(**{k: v for k, v in row.items() if k in known}), gradients, feed


def sweep(folder: Path) -> None:
    """Remove what a kill left half-written or half-removed."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.startswith(".part-") or (_NAME.match(path.name) and not (path / MANIFEST).exists()):
                shutil.rmtree(path, ignore_errors=True)


def set_aside(folder: Path, resumed: Path | None) -> list[Path]:
    """Rename the broken checkpoints after the one that was ``resumed``, and return their old paths.

    Their steps come again, and the keep rule must not count them as the newest.
    """
    broken = [path for path in listed(folder) if resumed is None or place_of(path) > place_of(resumed)]
    for path in broken:
        aside = folder / f"{_BROKEN}{path.name}"
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)
    return broken


def remove(path: Path) -> None:
    """Take a checkpoint away: it stops counting first, so that a kill leaves no half of it."""
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def surplus(folder: Path, keep: int, best_step: int) -> list[Path]:
    """Checkpoints beyond the newest ``keep`` and the best one."""
    return [p for i, p in enumerate(listed(folder)) if i >= keep and place_of(p) != (best_step, 0)]


def _arrays(path: Path) -> dict[str, mx.array]:
    """The arrays of a safetensors file."""
    found = mx.load(str(path))
    assert isinstance(found, dict)
    return {name: value for name, value in found.items() if isinstance(value, mx.array)}


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _file_facts(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _sync(folder: Path) -> None:
    """Flush a folder's files and its own entry to the disk."""
    for path in [*folder.iterdir(), folder]:
        if path.is_file() or path == folder:
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
