"""Where a model lies: a folder with the whole of it, and perhaps an adapter's folder on top.

An adapter that was trained on top of another one computes right only together with it. Its folder holds
all that came before, in the order in which they go into the model::

    before.1.safetensors  before.1.json      the first one, in stock mlx-lm's form
    before.2.safetensors  before.2.json      trained on top of the first
    adapters.safetensors  adapter_config.json

``adapter_config.json`` then has ``on_top_of``, the sha256 of each ``before`` file, and keeps mlx-lm's keys
under ``adapter``: stock mlx-lm, which would leave out what came before, does not find them and refuses.
``base_weights`` names the base: :func:`weights_digest`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from training.engine.errors import ModelError
from training.engine.folders import safetensors_header

WEIGHTS = "adapters.safetensors"
CONFIG = "adapter_config.json"
BEFORE = re.compile(r"before\.(\d{1,3})\.(safetensors|json)")
MOST_BEFORE = 100
SCORE, VALUE = "score", "value_head"
HEADS = (SCORE, VALUE)
"""Heads beside a model's own: of a reward model (transformers' name for it, too), and of a policy's values."""
_MAX_CONFIG = 1 << 20  # bytes
_TAIL = 4096
_HINT = "Train or import it again."


class Place(BaseModel):
    """A model to be loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path = Field(description="Folder of the base model: config.json, tokenizer, safetensors.")
    adapter: Path | None = Field(None, description="Folder of an adapter that goes on top of it.")


@dataclass(frozen=True, slots=True)
class Part:
    """One adapter of a chain: its weights, and what mlx-lm's ``adapter_config.json`` says of them."""

    weights: Path
    config: dict[str, Any]


def chain(folder: Path) -> list[Part]:
    """The adapters in ``folder`` in the order in which they go into the base.

    Raises ModelError ``adapter.missing``, ``adapter.config_broken`` or ``adapter.incomplete``.
    """
    config = read_config(folder)
    digests = config.get("on_top_of")
    if digests is None:
        return [Part(folder / WEIGHTS, config)]
    own = config.get("adapter")
    if not isinstance(digests, list) or not 0 < len(digests) <= MOST_BEFORE or not isinstance(own, dict):
        raise broken(CONFIG, "'on_top_of' or 'adapter' is damaged")
    parts = []
    for n, digest in enumerate(digests, 1):
        path = folder / f"before.{n}.safetensors"
        if not path.is_file() or sha256(path) != digest:
            raise ModelError(
                "adapter.incomplete",
                f"The adapter {folder.name} was trained on top of another one, and {path.name} is missing or changed.",
                _HINT,
            )
        parts.append(Part(path, read_json(folder / f"before.{n}.json")))
    return [*parts, Part(folder / WEIGHTS, {**own, "base_weights": config.get("base_weights")})]


def read_config(folder: Path) -> dict[str, Any]:
    """``adapter_config.json`` of an adapter's folder, which must hold its weights, too."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(
                "adapter.missing",
                f"The adapter folder {folder.name} has no {name}.",
                f"Give a folder that holds {WEIGHTS} and {CONFIG}.",
            )
    return read_json(folder / CONFIG)


def put_before(folder: Path, config: dict[str, Any], before: Path) -> dict[str, Any]:
    """Lay the adapters of ``before`` into ``folder``, whose own one has the mlx-lm ``config``; returns its new one.

    Hard links where the disk can, else copies.
    """
    digests = []
    for n, part in enumerate(chain(before), 1):
        target = folder / f"before.{n}.safetensors"
        try:
            os.link(part.weights, target)
        except OSError:
            shutil.copyfile(part.weights, target)
        text = json.dumps({k: v for k, v in part.config.items() if v is not None}, indent=1)
        (folder / f"before.{n}.json").write_text(text + "\n", encoding="utf-8")
        digests.append(sha256(target))
    return {"on_top_of": digests, "adapter": config}


def files(folder: Path) -> list[Path]:
    """The files that make the adapter in ``folder``; a checkpoint holds others, too."""
    names = [p for p in folder.iterdir() if p.name in (WEIGHTS, CONFIG) or BEFORE.fullmatch(p.name)]
    return sorted(p for p in names if p.is_file())


def heads(folder: Path) -> list[str]:
    """The heads that the adapter in ``folder``, or one below it, brings along; none of a file that cannot be read."""
    found: set[str] = set()
    for path in (folder / WEIGHTS, *folder.glob("before.*.safetensors")):
        try:
            names = safetensors_header.read(path)
        except (OSError, ModelError):
            continue  # whoever loads it says what is wrong with it
        found |= {head for head in HEADS if f"{head}.weight" in names}
    return [head for head in HEADS if head in found]


def weights_digest(model: Path) -> str:
    """A short name for the weights in a model's folder: sha256 over name, size and last 4 KiB of each file."""
    digest = hashlib.sha256()
    for path in sorted(model.glob("model*.safetensors")):
        digest.update(path.name.encode() + tail(path))
    return digest.hexdigest()


def adapter_digest(folder: Path) -> str:
    """What identifies the adapter in ``folder``, in the same way."""
    return hashlib.sha256(b"".join(path.name.encode() + tail(path) for path in files(folder))).hexdigest()


def digest(place: Place) -> str:
    """What identifies the whole of ``place``."""
    adapter = adapter_digest(place.adapter) if place.adapter is not None else ""
    return hashlib.sha256(f"{weights_digest(place.model)}{adapter}".encode()).hexdigest()


def tail(path: Path) -> bytes:
    """Size and last 4 KiB of a file: enough to notice another one without reading gigabytes."""
    if not path.exists():
        return b"-"
    with open(path, "rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - _TAIL))
        return str(size).encode() + file.read()


def sha256(path: Path) -> str:
    """Of a whole file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def broken(name: str, what: str) -> ModelError:
    """An adapter's description that cannot be."""
    return ModelError("adapter.config_broken", f"{name} does not describe an adapter: {what}.", _HINT)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a small file. Raises ModelError ``adapter.config_broken``."""
    try:
        if path.stat().st_size > _MAX_CONFIG:
            raise broken(path.name, "it is larger than 1 MiB")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise broken(path.name, str(error)[:120]) from None
    if not isinstance(value, dict):
        raise broken(path.name, "it holds no JSON object")
    return value
