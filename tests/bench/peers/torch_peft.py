"""PyTorch with transformers and PEFT: shuffled rows, padded to the longest of a batch, sdpa, no torch.compile."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.bench.peers.clock import Clock, Enough, encoded, main
from tests.bench.work import Work
from training.engine.rows.masks import Encoded

IGNORED = -100  # what transformers leaves out of the loss


def batches(rows: list[Encoded], work: Work) -> Iterator[list[Encoded]]:
    """Shuffled anew every epoch, as the default of transformers' Trainer is."""
    draw = random.Random(work.seed)
    while True:
        order = draw.sample(range(len(rows)), len(rows))
        for start in range(0, len(order), work.batch_size):
            yield [rows[i] for i in order[start : start + work.batch_size]]


def tensors(batch: list[Encoded], device: str) -> dict[str, torch.Tensor]:
    """Padded on the right; labels only where the row is trained."""
    width = max(len(row.ids) for row in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    seen, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for i, row in enumerate(batch):
        length = len(row.ids)
        ids[i, :length], seen[i, :length] = torch.tensor(row.ids), 1
        labels[i, :length] = torch.where(torch.tensor(row.trained), torch.tensor(row.ids), IGNORED)
    return {"input_ids": ids.to(device), "attention_mask": seen.to(device), "labels": labels.to(device)}


def run(work: Work) -> dict[str, Any]:
    """Train and measure."""
    torch.manual_seed(work.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(work.model, dtype=dtype, attn_implementation="sdpa").to(device)
    if work.fine_tune == "lora":
        about = LoraConfig(
            r=work.rank, lora_alpha=work.scale * work.rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        model = get_peft_model(model, about)
    model.config.use_cache = False
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=work.learning_rate)
    clock = Clock(work)
    with contextlib.suppress(Enough):
        _loop(model, optimizer, work, clock, device)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return clock.result(peak, sum(p.numel() for p in trained), f"{device}, PyTorch {torch.__version__}")


def _loop(model: Any, optimizer: torch.optim.Optimizer, work: Work, clock: Clock, device: str) -> None:
    clock.start()
    stream = batches(encoded(work), work)
    for _ in range(work.steps):
        rows = next(stream)
        clock.expect(sum(sum(row.trained[1:]) for row in rows), len(rows))
        loss = model(**tensors(rows, device)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.step(loss.item())  # item() waits for the device


if __name__ == "__main__":
    main(run)
