"""Puts trained adapters into a loaded model's own weights: how a training starts from an adapter version,
how evaluation and reward models are loaded.

Per layer, in float32, then cast to the weight's own format (Hu et al. 2021, section 4.1; Liu et al. 2024):

    LoRA    W + scale * (A B)ᵀ                           A (in, rank), B (rank, out)
    DoRA    m * (W + scale * (A B)ᵀ) / ‖its rows‖        m (out,)
    full    the trained weight in place of W

A packed weight is unpacked first and stays so: packing again would round the adapter away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn

from training.engine.errors import ModelError
from training.engine.folders import places, safetensors_header
from training.engine.folders.places import Part, Place
from training.engine.machine.device import Device
from training.engine.models import loading
from training.engine.models.loading import Loaded

LEAVES = ("lora_a", "lora_b", "m")
_OTHER = "It belongs to another base model: choose that one."
_EMBEDDINGS = (nn.Embedding, nn.QuantizedEmbedding)


@dataclass(frozen=True, slots=True)
class Placed:
    """A model in memory with its adapters in it. ``extras``: arrays of the adapter that are no part of the
    model, such as the head of a reward model, by their full names."""

    loaded: Loaded
    extras: dict[str, mx.array]


def load_place(place: Place, dtype: str, device: Device) -> Placed:
    """As :func:`training.engine.models.loading.load`, with the adapter of ``place`` put into the weights.

    Raises ModelError as that does, and ``adapter.missing``, ``adapter.config_broken``, ``adapter.incomplete``,
    ``adapter.other_model``, ``adapter.other_shape``.
    """
    return _placed(loading.load(place.model, dtype, device), place)


def open_place(place: Place, dtype: str, device: Device) -> Placed:
    """As :func:`load_place`, with no weight read yet."""
    return _placed(loading.open_unread(place.model, dtype, device), place, evaluate=False)


def _placed(loaded: Loaded, place: Place, *, evaluate: bool = True) -> Placed:
    if place.adapter is None:
        return Placed(loaded, {})
    extras = fuse(loaded.model, place.adapter, base=place.model, evaluate=evaluate)
    packed = any("scales" in module and hasattr(module, "bits") for module in loaded.model.modules())
    return Placed(Loaded(loaded.model, loaded.config, packed, loaded.dtype, loaded.parameters), extras)


def fuse(model: nn.Module, folder: Path, *, base: Path | None = None, evaluate: bool = True) -> dict[str, mx.array]:
    """Put the adapter in ``folder``, and those it was trained on top of, into the weights of ``model``.

    Returns the arrays that are no part of the model. ``base``: the model's folder, compared with the one that the
    adapter was trained on if that is recorded. ``evaluate``: compute at once, layer by layer; else when needed.
    Raises ModelError as :func:`load_place`; the model is then to be thrown away.
    """
    extras: dict[str, mx.array] = {}
    parts = places.chain(folder)
    recorded = parts[-1].config.get("base_weights") or parts[0].config.get("base_weights")
    if base is not None and recorded is not None and recorded != places.weights_digest(base):
        raise ModelError("adapter.other_model", f"The adapter {folder.name} was not trained on {base.name}.", _OTHER)
    for part in parts:
        extras |= _put(model, part, evaluate=evaluate)
    return extras


def _put(model: nn.Module, part: Part, *, evaluate: bool) -> dict[str, mx.array]:
    """Put one adapter of a chain into ``model``; returns what is no part of it."""
    kind, scale = _kind(part)
    arrays = read_arrays(part.weights)
    extras = {name: arrays.pop(name) for name in list(arrays) if _is_extra(model, name)}
    for path, own in _by_module(arrays, kind):
        module = _module(model, path, f"{path}.{next(iter(own))}")
        weights = _plain(model, path, module)
        if "lora_a" in own:
            weights["weight"] = _merged(path, weights.weight, own, scale, embedding=isinstance(module, _EMBEDDINGS))
            own = {name: value for name, value in own.items() if name not in LEAVES}
        for name, value in own.items():
            _replace(weights, path, name, value)
        if evaluate:
            mx.eval(weights.parameters())
    return extras


def read_arrays(path: Path) -> dict[str, mx.array]:
    """The arrays of a safetensors file whose header was checked."""
    safetensors_header.read(path)
    found = mx.load(str(path))
    assert isinstance(found, dict)
    return dict(found)


def _kind(part: Part) -> tuple[str, float]:
    """lora, dora or full, and the multiplier of the added product."""
    kind = part.config.get("fine_tune_type", "lora")
    if kind == "full":
        return kind, 0.0
    parameters = part.config.get("lora_parameters")
    scale: Any = parameters.get("scale") if isinstance(parameters, dict) else None
    good = isinstance(scale, int | float) and not isinstance(scale, bool) and math.isfinite(scale)
    if kind not in ("lora", "dora") or not good:
        raise places.broken(places.CONFIG, f"fine_tune_type {str(kind)[:40]!r}, scale {str(scale)[:40]!r}")
    return kind, float(scale)


def scale_of(part: Part) -> float:
    """What the product of an adapter's matrices is multiplied with. Raises ModelError ``adapter.config_broken``."""
    return _kind(part)[1]


def _is_extra(model: nn.Module, name: str) -> bool:
    """Whether no part of the model has this name's first word: a head that was trained beside it."""
    first = name.split(".", maxsplit=1)[0]
    return first not in model and first != "lm_head"


def _by_module(arrays: dict[str, mx.array], kind: str) -> Iterator[tuple[str, dict[str, mx.array]]]:
    """Arrays of an adapter by the path of their layer, pairs complete."""
    found: dict[str, dict[str, mx.array]] = {}
    for name, value in arrays.items():
        path, _, leaf = name.rpartition(".")
        found.setdefault(path, {})[leaf] = value
    needed = {"lora": {"lora_a", "lora_b"}, "dora": set(LEAVES), "full": set()}[kind]
    for path, own in found.items():
        adapted = set(LEAVES) & set(own)
        if kind != "full" and adapted and adapted != needed:
            raise places.broken(places.WEIGHTS, f"{path[:80]} lacks {', '.join(sorted(needed - adapted)) or 'a pair'}")
        yield path, own


def _module(model: nn.Module, path: str, name: str) -> nn.Module:
    found: Any = model
    for part in path.split(".") if path else ():
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, ValueError, TypeError):
            found = None
        if found is None:
            break
    if not isinstance(found, nn.Module):
        raise ModelError("adapter.other_model", f"The model has no '{name[:120]}', which the adapter holds.", _OTHER)
    return found


def _plain(model: nn.Module, path: str, module: nn.Module) -> nn.Module:
    """The layer at ``path``, unpacked if it was packed."""
    if "scales" not in module or not hasattr(module, "bits"):
        return module
    loading.unpack(model, {path}, module.scales.dtype if module.scales.dtype != mx.uint8 else mx.bfloat16)
    return _module(model, path, path)


def _merged(path: str, weight: mx.array, own: dict[str, mx.array], scale: float, *, embedding: bool) -> mx.array:
    """W with the added product, in W's own format."""
    a, b = own["lora_a"].astype(mx.float32), own["lora_b"].astype(mx.float32)
    # Computed by the processor: some GPUs multiply float32 with 10 bits of mantissa.
    with mx.stream(mx.cpu):
        experts = weight.ndim == 3
        left, right = (b, a) if experts else (a, b)
        if left.ndim != right.ndim or left.ndim != weight.ndim or left.shape[-1] != right.shape[-2]:
            raise _misshapen(path, a.shape, b.shape, weight.shape)
        product = left @ right
        added = product if experts or embedding else product.T
        if added.shape != weight.shape:
            raise _misshapen(path, a.shape, b.shape, weight.shape)
        merged = weight.astype(mx.float32) + scale * added
        if "m" in own:
            if own["m"].shape != weight.shape[:1] or experts:
                raise _misshapen(path, a.shape, own["m"].shape, weight.shape)
            merged = (own["m"].astype(mx.float32) / mx.linalg.norm(merged, axis=1))[:, None] * merged
        return merged.astype(weight.dtype)


def _replace(module: nn.Module, path: str, name: str, value: mx.array) -> None:
    known = module.get(name)
    if not isinstance(known, mx.array):
        message = f"The model has no '{path[:100]}.{name[:40]}', which the adapter holds."
        raise ModelError("adapter.other_model", message, _OTHER)
    if known.shape != value.shape:
        raise _misshapen(path, value.shape, value.shape, known.shape)
    module[name] = value.astype(known.dtype)


def _misshapen(path: str, one: Any, other: Any, weight: Any) -> ModelError:
    return ModelError(
        "adapter.other_shape",
        f"The adapter's {tuple(one)} and {tuple(other)} at {path[:100]} do not fit its weight {tuple(weight)}.",
        _OTHER,
    )
