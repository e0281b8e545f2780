"""The package mlx-lm-lora on pairs: its ``train_dpo`` and ``train_orpo``, unaltered, with a clock in the callback.

As in ``mlx_lm_lora_package``: the missing key is supplied, and it is handed its own batches one after the other.
It is given our tokens, so that both train the same ones; its mask has the line break behind an answer, too. As its
own command does, DPO loads a second model as the reference.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import mlx.optimizers as optim
from mlx_lm.utils import load

from tests.bench.peers.clock import Clock, Enough, encoded, main
from tests.bench.peers.mlx_lm_lora_command import Told, prepare, result
from tests.bench.peers.mlx_lm_lora_package import supply_key
from tests.bench.work import Work

NAMES = ("chosen", "rejected")


def pairs(work: Work) -> list[dict[str, Any]]:
    """The rows as its data sets hold them: tokens of both answers, and how many of them are the prompt."""
    parts = encoded(work)
    return [
        {
            **{name: part.ids for name, part in zip(NAMES, both, strict=True)},
            **{f"{name}_prompt_length": part.trained.index(True) for name, part in zip(NAMES, both, strict=True)},
        }
        for both in zip(parts[::2], parts[1::2], strict=True)
    ]


def counted(made: Iterator[Any], clock: Clock) -> Iterator[Any]:
    """Its batches as they are, counted by our mask on their way."""
    for batch in made:
        tokens = 0
        for ids, mask in ((batch[0], batch[2]), (batch[1], batch[3])):
            lengths = [max(i for i, on in enumerate(row) if on) + 1 for row in mask.tolist()]
            tokens += clock.truth.count(ids.tolist(), lengths)
        clock.expect(tokens, len(batch[0]))
        yield batch


def run(work: Work) -> dict[str, Any]:
    """Train and measure."""
    supply_key()
    # Only here, because the package is installed beside the others for the bench alone.
    from mlx_lm_lora.trainer import dpo_trainer, orpo_trainer

    is_dpo = work.method == "dpo"
    trainer: Any = dpo_trainer if is_dpo else orpo_trainer
    iterate = f"iterate_{work.method}_batches"
    model, _ = prepare(work)
    clock = Clock(work)
    own, stream = getattr(trainer, iterate), list[Iterator[Any]]()

    def one_stream(*asked: Any, **more: Any) -> Iterator[Any]:
        if not stream:
            stream.append(counted(own(*asked, **more), clock))
        return stream[0]

    setattr(trainer, iterate, one_stream)
    arguments = (dpo_trainer.DPOTrainingArgs if is_dpo else orpo_trainer.ORPOTrainingArgs)(
        batch_size=work.batch_size, iters=work.steps, steps_per_report=1, steps_per_save=10**9,
        steps_per_eval=10**9, max_seq_length=work.max_seq_length,
        adapter_file=f"{work.data}/mlx-lm-lora.safetensors",
    )  # fmt: skip
    given: dict[str, Any] = {"model": model, "optimizer": optim.AdamW(learning_rate=work.learning_rate)}
    if is_dpo:
        given["ref_model"] = load(work.model)[0].freeze()
    clock.start()
    with contextlib.suppress(Enough):
        getattr(trainer, f"train_{work.method}")(
            **given, train_dataset=pairs(work), args=arguments, training_callback=Told(clock)
        )
    return result(clock, model)


if __name__ == "__main__":
    main(run)
