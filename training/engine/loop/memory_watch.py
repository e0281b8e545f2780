"""Looks after memory while a training runs, so that it ends with a checkpoint and not by the kernel's hand.

It also holds the plan against the peak of the attempt's first update, and remembers by how much it was wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import mlx.core as mx

from training.engine.config.training import TrainConfig
from training.engine.errors import Exit, MemoryShortage, StopAsked
from training.engine.machine import device, memory
from training.engine.machine.device import Device
from training.engine.machine.memory import Room
from training.engine.planning import calibration, memory_facts, memory_plan
from training.engine.planning.memory_plan import Facts, Plan, Work
from training.engine.rows.layouts import Batch
from training.engine.run.session import Session

EVERY = 1.0  # seconds between two looks
MOST = 0.97  # share of a GPU's memory
GIB = 1 << 30
WORTH = 64 << 20  # bytes of a micro-batch from which a measurement teaches something

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
        machine: Device,
        read: Callable[[], Reading] = read,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._session, self._device, self._read, self._clock = config, session, machine, read, clock
        self._next = 0.0
        self._shortage = ""
        self._facts: Facts | None = None
        self._kind = ""
        self._earlier = self._base = 0
        self._planned: Plan | None = None

    def expect(self, facts: Facts, lengths: Iterable[int], layout: str, ranks: int) -> None:
        """Write the plan of this training into the journal; the first update will be held against it."""
        config = self._config
        self._facts = facts
        self._kind = calibration.key(self._device.backend, facts.model_type, grad_checkpoint=config.grad_checkpoint)
        plan = self._plan(memory_facts.work_of_rows(lengths, config, layout, ranks))
        self._session.journal.write("memory", **plan.as_dict())
        fits = "" if plan.fits else " It may not fit."
        words = f"Memory: about {plan.total / GIB:.2f} of {plan.limit / GIB:.2f} GiB.{fits}"
        self._session.log(f"{words} {plan.calibration.words}", "info" if plan.fits else "warning")

    def peak(self) -> int:
        """The most bytes that MLX has held in this process."""
        return max(self._earlier, mx.get_peak_memory())

    def saw(self, batch: Batch) -> None:
        """A micro-batch was computed."""
        if self._facts is None:
            return
        plan = self._plan(memory_facts.work_of_batch(batch))
        if self._planned is None or plan.changing > self._planned.changing:
            self._planned = plan

    def updated(self) -> None:
        """The weights were changed. The first time, the peak is held against the plan."""
        planned = self._planned
        if self._facts is None or planned is None:
            return
        self._facts = None
        held = mx.get_peak_memory() - self._base
        share = (self._base + planned.changing) / max(1, self._base + held) - 1
        of_step = {"planned": self._base + planned.changing, "measured": self._base + held, "error": share}
        self._session.journal.write("memory", **of_step)
        self._session.log(
            f"Memory of the first update: {of_step['measured'] / GIB:.2f} GiB, "
            f"planned {of_step['planned'] / GIB:.2f} GiB ({100 * share:+.0f} %)."
        )
        plain = planned.changing / planned.calibration.ratio
        if plain >= WORTH:
            calibration.add(self._config.kernel_cache, self._kind, held / plain)

    def _plan(self, work: Work) -> Plan:
        assert self._facts is not None
        config = self._config
        return memory_plan.make(
            self._facts,
            work,
            device.limit(self._device),
            grad_checkpoint=config.grad_checkpoint,
            accumulates=config.grad_accumulation_steps > 1,
            sample_tokens=memory_facts.sample_tokens(config),
            on_host=self._device.backend != "cuda",
            calibration=calibration.read(config.kernel_cache, self._kind),
        )

    def look(self) -> None:
        """Call it between micro-batches: it does something once a second."""
        if self._facts is not None and not self._base:
            self._base, self._earlier = mx.get_active_memory(), self.peak()
            mx.reset_peak_memory()
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
