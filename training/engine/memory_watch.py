"""Looks after memory while a training runs, so that it ends with a checkpoint and not by the kernel's hand."""

from __future__ import annotations

import time
from collections.abc import Callable

import mlx.core as mx

from training.engine import memory
from training.engine.config import TrainConfig
from training.engine.device import Device
from training.engine.errors import Exit, MemoryShortage, StopAsked
from training.engine.memory import Room
from training.engine.session import Session

EVERY = 1.0  # seconds between two looks
MOST = 0.97  # share of a GPU's memory
GIB = 1 << 30

#: What is left on the machine, and bytes that MLX holds.
Reading = tuple[Room, int]


def read() -> Reading:
    """The figures of this moment."""
    return memory.room(), mx.get_active_memory() + mx.get_cache_memory()


class MemoryWatch:
    """Asks the session to stop when memory runs short; the loop then saves and calls :meth:`refuse`."""

    def __init__(
        self,
        config: TrainConfig,
        session: Session,
        device: Device,
        read: Callable[[], Reading] = read,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._session, self._device, self._read, self._clock = config, session, device, read, clock
        self._next = 0.0
        self._shortage = ""

    def look(self) -> None:
        """Call it between micro-batches: it does something once a second."""
        now = self._clock()
        if now < self._next or self._session.stopping is not None:
            return
        self._next = now + EVERY
        if not self._lack():
            return
        mx.clear_cache()
        memory.give_back()
        self._shortage = self._lack()
        if self._shortage:
            # As a signal would: in a group all ranks then stop at the same place.
            self._session.stopping = StopAsked(self._shortage, Exit.STOPPED)

    def refuse(self) -> None:
        """Raise MemoryShortage ``memory.short`` if that is why the training stops."""
        if self._shortage:
            raise MemoryShortage("memory.short", self._shortage, advice(self._config))

    def _lack(self) -> str:
        """What is short now; "" if nothing is."""
        room, held = self._read()
        if room.is_short:
            return f"Only {room.available / GIB:.2f} of {room.total / GIB:.1f} GiB of memory are left."
        if not self._device.is_cpu and held > MOST * self._device.memory:
            return f"MLX holds {held / GIB:.1f} of the device's {self._device.memory / GIB:.1f} GiB."
        return ""


def advice(config: TrainConfig) -> str:
    """What changes the result least and needs less memory."""
    if config.batch_tokens:
        half = max(64, config.batch_tokens // 2)
        first = f"Start again with batch_tokens {half} and grad_accumulation_steps {2 * config.grad_accumulation_steps}"
    elif config.batch_size > 1:
        half = config.batch_size // 2
        steps = config.grad_accumulation_steps * config.batch_size // half
        first = f"Start again with batch_size {half} and grad_accumulation_steps {steps}: the same updates, less memory"
    else:
        first = f"Start again with max_seq_length {max(8, config.max_seq_length // 2)}"
    return f"{first}{'' if config.grad_checkpoint else '; or with gradient checkpointing'}."
