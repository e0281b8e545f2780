"""What a model version is to the engine: a base model's folder, and an adapter's where the version is one."""

from __future__ import annotations

from registry.models import ModelVersion
from training.engine.errors import ConfigError
from training.engine.folders.places import Place
from training.models import Checkpoint


def place(version: ModelVersion) -> Place:
    """Where ``version`` lies. Training, evaluation and rewards all load a version by this."""
    whole = version.whole
    return Place(model=whole.folder, adapter=None if whole == version else version.folder)


def checkpoint_place(begun: ModelVersion, checkpoint: Checkpoint | None) -> Place:
    """Where a checkpoint of a training that began with ``begun`` lies. Raises ConfigError ``checkpoint.gone``."""
    if checkpoint is None or not checkpoint.folder.is_dir():
        raise ConfigError(
            "checkpoint.gone",
            "The checkpoint is not there any more: its training has removed it.",
            "Choose one that is kept; the training's setting 'Keep checkpoints' says how many are.",
        )
    return Place(model=begun.whole.folder, adapter=checkpoint.folder)


def folders(version: ModelVersion) -> dict[str, str]:
    """The same as keys of a training's ``config.json``; ``adapter_path`` only where there is an adapter."""
    found = place(version)
    adapter = {} if found.adapter is None else {"adapter_path": str(found.adapter)}
    return {"model": str(found.model), **adapter}
