"""The package mlx-lm-lora: its ``train_sft``, unaltered, with a clock in the callback.

Two things it needs here. It asks MLX for a key that a CPU does not have, which is supplied. And it draws
every batch from a new shuffle, so an epoch would miss some rows and repeat others; it is handed its own
batches one after the other, so that it trains the same rows as the rest.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim

from tests.bench.peers.clock import Clock, Enough, main
from tests.bench.peers.mlx_lm_lora_command import Told, prepare, result
from tests.bench.work import Work

KEY = "max_recommended_working_set_size"


def supply_key() -> None:
    """Let ``mx.device_info()`` hold the key that train_sft reads for ``mx.set_wired_limit``."""
    ask = mx.device_info
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    mx.device_info = lambda *a: {KEY: memory, **ask(*a)}  # type: ignore[assignment]


def run(work: Work) -> dict[str, Any]:
    """Train and measure."""
    supply_key()
    # Only here, because the package is installed beside the others for the bench alone.
    from mlx_lm_lora.trainer.sft_trainer import SFTTrainingArgs, iterate_batches, train_sft

    model, rows = prepare(work)
    clock = Clock(work)
    stream: list[Iterator[Any]] = []

    def one_stream(**asked: Any) -> Iterator[Any]:
        if not stream:
            stream.append(clock.batches(iterate_batches(**asked)))
        return stream[0]

    arguments = SFTTrainingArgs(
        batch_size=work.batch_size, iters=work.steps, steps_per_report=1, steps_per_save=10**9,
        steps_per_eval=10**9, max_seq_length=work.max_seq_length,
        adapter_file=f"{work.data}/mlx-lm-lora.safetensors",
    )  # fmt: skip
    clock.start()
    with contextlib.suppress(Enough):
        train_sft(
            model, optim.AdamW(learning_rate=work.learning_rate), rows,
            args=arguments, iterate_batches=one_stream, training_callback=Told(clock),
        )  # fmt: skip
    return result(clock, model)


if __name__ == "__main__":
    main(run)
