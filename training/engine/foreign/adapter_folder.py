"""Takes an adapter of mlx-lm, of PEFT or of this platform out of a foreign folder, as ``model_folder`` does a model."""

from __future__ import annotations

import re
from pathlib import Path

from training.engine.errors import ModelError
from training.engine.folders import places, safetensors_header
from training.engine.foreign import model_folder
from training.engine.machine.device import Device
from training.engine.models import loading
from training.engine.run.rundir import write_json
from training.engine.tuning import fuse, peft

_WANTED = re.compile(rf"adapter_config\.json|adapters\.safetensors|{re.escape(peft.WEIGHTS)}|README\.md|LICENSE")
_PICKLES = ("adapter_model.bin", "adapters.npz", "adapter_model.pt")
_ANY = Device("cpu", "", 0, "", 1, True)  # nothing is computed


def wanted(name: str) -> bool:
    """Whether a file of this name, at the top of an adapter's folder, is taken."""
    return (_WANTED.fullmatch(name) or places.BEFORE.fullmatch(name)) is not None


def refuse_missing(name: str, names: list[str], all_names: list[str]) -> None:
    """Whether the files ``names`` make an adapter, by their names alone. Raises ModelError."""
    weights = [n for n in names if n in (places.WEIGHTS, peft.WEIGHTS)]
    if pickles := [n for n in all_names if n in _PICKLES and not weights]:
        raise ModelError(
            "model.pickle",
            f"The weights are in {pickles[0]}, a format that can run programs when it is opened.",
            f"Take {peft.WEIGHTS}; PEFT writes it by default.",
        )
    if len(weights) != 1 or places.CONFIG not in names:
        raise ModelError(
            "adapter.missing",
            f"{name} is no adapter: {places.CONFIG} and {places.WEIGHTS} (mlx-lm) or {peft.WEIGHTS} (PEFT) make one.",
            "Give an adapter's folder, or leave out the base to import a whole model.",
        )


def refuse_broken(folder: Path, names: list[str]) -> None:
    """Look into the files ``names`` of ``folder``. Raises ModelError."""
    for name in names:
        if name.endswith(".safetensors"):
            safetensors_header.read(folder / name)
    places.read_json(folder / places.CONFIG)


def settle(folder: Path, base: Path) -> loading.About:
    """Bring the adapter in ``folder`` into mlx-lm's form and compare it with ``base``; facts of the base.

    Raises ModelError as :func:`training.engine.tuning.peft.read` and :func:`training.engine.tuning.fuse.fuse` do.
    """
    if (folder / peft.WEIGHTS).exists():
        peft.convert(folder)
    about = loading.inspect(base)
    fuse.fuse(loading.open_unread(base, "auto", _ANY).model, folder, base=base, evaluate=False)
    config = places.read_config(folder)
    write_json(folder / places.CONFIG, {**config, "base_weights": places.weights_digest(base)})
    return about


#: What ``model_folder.copy`` and ``hub.fetch`` take from a source.
WISH = model_folder.Wish(wanted, refuse_missing, refuse_broken)
