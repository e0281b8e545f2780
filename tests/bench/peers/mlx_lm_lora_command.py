"""mlx-lm's own fine-tuning: what ``mlx_lm.lora`` does, up to its ``train()``, with a clock in the callback.

``mlx_lm.lora.run`` loads, converts and calls ``tuner.trainer.train``; so does this, with the same functions.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.datasets import CacheDataset, load_dataset
from mlx_lm.tuner.trainer import TrainingArgs, iterate_batches, train
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load

from tests.bench.peers.clock import Clock, Enough, main
from tests.bench.work import Work
from training.engine.machine import blas


class Told(TrainingCallback):
    """Hears of every step."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        self.clock.step(train_info["train_loss"])


def prepare(work: Work) -> tuple[Any, Any]:
    """Model with its trainable parameters, and the data set, as ``mlx_lm.lora`` makes them."""
    np.random.seed(work.seed)
    model, tokenizer = load(work.model)
    rows: Any = []  # its own reader knows no pairs
    if work.method == "sft":
        asked = SimpleNamespace(data=work.data, mask_prompt=work.train_on == "assistant", train=True, test=False)
        rows, _, _ = load_dataset(asked, tokenizer)
    mx.random.seed(work.seed)
    model.freeze()
    if work.fine_tune == "full":
        for layer in model.layers[-max(work.num_layers, 0) :]:
            layer.unfreeze()
    else:
        parameters = {"rank": work.rank, "dropout": 0.0, "scale": work.scale}
        linear_to_lora_layers(model, work.num_layers, parameters)
    return model, CacheDataset(rows)


def result(clock: Clock, model: Any) -> dict[str, Any]:
    """What MLX and the clock have seen."""
    trainable = sum(value.size for _, value in tree_flatten(model.trainable_parameters()))
    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    return clock.result(mx.get_peak_memory(), trainable, f"cpu, {blas.running()}" if on_cpu else "gpu")


def run(work: Work) -> dict[str, Any]:
    """Train and measure."""
    model, rows = prepare(work)
    clock = Clock(work)
    arguments = TrainingArgs(
        batch_size=work.batch_size, iters=work.steps, steps_per_report=1, steps_per_save=10**9,
        max_seq_length=work.max_seq_length, adapter_file=f"{work.data}/mlx-lm.safetensors",
    )  # fmt: skip
    clock.start()
    with contextlib.suppress(Enough):
        train(
            model,
            optim.AdamW(learning_rate=work.learning_rate),
            rows,
            args=arguments,
            iterate_batches=lambda *a, **k: clock.batches(iterate_batches(*a, **k)),
            training_callback=Told(clock),
        )
    return result(clock, model)


if __name__ == "__main__":
    main(run)
