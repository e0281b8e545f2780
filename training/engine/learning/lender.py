"""Further models of a training: a teacher, a reward model. Read when they are asked for, and only then."""

from __future__ import annotations

from collections.abc import Mapping

from training.engine.catalog.method_settings import Other
from training.engine.errors import ConfigError
from training.engine.folders import places
from training.engine.folders.places import Place
from training.engine.machine.device import Device
from training.engine.rows import layouts
from training.engine.tuning.fuse import Placed, load_place


class Lender:
    """Lends each model as often as it is asked for; it stays in memory as long as somebody holds it."""

    def __init__(self, places: Mapping[Other, Place], dtype: str, device: Device) -> None:
        self.places, self._dtype, self._device = places, dtype, device

    def lend(self, name: Other) -> Placed:
        """The model ``name``, frozen, for batches in any layout. Raises ModelError as load_place does."""
        placed = load_place(self.place(name), self._dtype, self._device)
        placed.loaded.model.freeze()
        layouts.choose(placed.loaded.model, 1, None, is_cpu=self._device.is_cpu)  # it learns where rows end
        return placed

    def place(self, name: Other) -> Place:
        """Where the model ``name`` lies. Raises ConfigError ``teacher.missing``, ``reward_model.missing``."""
        if name not in self.places:
            what = name.replace("_", " ")
            message = f"The method needs a {what}, and none was given."
            raise ConfigError(f"{name}.missing", message, f"Name its folder in others.{name}.")
        return self.places[name]

    def digest(self, name: Other) -> str:
        """A short name for what :meth:`lend` would give, on this machine in this number format."""
        return f"{places.digest(self.place(name))} {self._dtype} {self._device.as_dict()}"
