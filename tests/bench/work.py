"""What all trainers of a comparison are given: the same model, rows, adapter and sizes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Work:
    """One training, as its engine or a peer's driver reads it."""

    model: str
    """Model folder."""
    data: str
    """Folder with train.jsonl."""
    rows: int
    """Rows of train.jsonl; a multiple of ``batch_size``, because mlx-lm leaves the rest out."""
    batch_size: int
    epochs: int
    method: str = "sft"
    """The engine's name of the method; peers' drivers know which of their trainers it is."""
    train_on: Literal["assistant", "all"] = "assistant"
    fine_tune: Literal["lora", "full"] = "lora"
    rank: int = 8
    scale: float = 2.0
    num_layers: int = -1
    """Blocks with an adapter, counted from the top; -1: all."""
    learning_rate: float = 1e-4
    max_seq_length: int = 1024
    seconds: float = 0.0
    """End this long after the first step; 0: train all epochs."""
    iters: int = 0
    """End after so many steps; 0: train all epochs."""
    seed: int = 42
    kernel_cache: str = ""
    """Folder for kernels that a GPU's trainers compile; "": wherever they like."""

    @property
    def steps(self) -> int:
        """Optimizer updates of a trainer that takes ``batch_size`` rows at a time."""
        return self.iters or self.epochs * -(-self.rows // self.batch_size)

    @property
    def comparable(self) -> bool:
        """Whether every trainer trains the same tokens: whole epochs, whatever the time."""
        return not self.seconds and not self.iters

    def write(self, path: Path) -> Path:
        """Store it for another process."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> Work:
        """What :meth:`write` has stored."""
        return cls(**json.loads(path.read_text()))
