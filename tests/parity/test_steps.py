"""Five steps of whole trainings: the engine beside transformers and PEFT, from the same weights on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.engine import method_data, runs
from tests.fakes import tiny
from tests.parity import peers
from tests.parity.compare import TOLERANCE, largest
from tests.parity.table import Checked
from training.engine.catalog.methods import METHODS
from training.engine.config.training import TrainConfig, check
from training.engine.errors import Exit
from training.engine.machine.device import Device
from training.engine.models.tokenizer import load as load_tokenizer
from training.engine.rows import batches
from training.engine.rows.batches import ByRows, Rows, Stream
from training.engine.rows.layouts import Flat
from training.engine.tuning import adapters
from training.engine.tuning.fuse import load_place

pytestmark = pytest.mark.parity

STEPS, ACCUMULATED, RATE = 5, 2, 1e-3
PARAMETERS = 2e-5
CPU = Device("cpu", "test", 0, "", 1, True)
OWN = "transformers, PEFT, torch AdamW"
REFERENCES = {
    "sft": OWN,
    "dpo": f"TRL DPOTrainer; {OWN}",
    "orpo": f"TRL ORPOTrainer; {OWN}",
    "simpo": f"TRL CPOTrainer; {OWN}",
}
METHOD: dict[str, dict[str, Any]] = {"sft": {}, **{name: {"beta": peers.BETA} for name in ("dpo", "orpo", "simpo")}}


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        ("sft", "full"),
        ("sft", "lora"),
        ("sft", "dora"),
        ("dpo", "full"),
        ("dpo", "lora"),
        ("orpo", "lora"),
        ("simpo", "lora"),
    ],
)
def test_five_steps_agree(family: str, method: str, adapter: str, tmp_path: Path, checked: Checked) -> None:
    base = tiny.make(tmp_path / "base", family)
    config = request(base, method_data.data(tmp_path / "data", method), method, adapter)
    assert runs.run(tmp_path / "run", config) == Exit.FINISHED
    losses = list(runs.points(tmp_path / "run").values())
    parameters = {name: np.array(value) for name, value in runs.arrays(tmp_path / "run", STEPS).items()}

    rows, updates = rows_in_order(check(TrainConfig, config))
    model, trained = peers.load(base, adapter, start_of(check(TrainConfig, config)))
    loss = peers.dpo(peers.reference(model, rows.rows)) if method == "dpo" else getattr(peers, method)
    others = list(peers.train(model, trained, loss, iter(updates), RATE))

    apart = largest({"loss": np.array(losses)}, {"loss": np.array(others)})
    moved = largest(parameters, peers.ours(trained))
    checked(f"five steps of {method}, Llama and Qwen3", REFERENCES[method], apart, moved)
    assert len(losses) == len(others) == STEPS
    assert others[0] != pytest.approx(others[-1], abs=1e-2), "nothing was learnt"
    assert apart <= TOLERANCE
    assert moved <= PARAMETERS


def request(base: Path, data: Path, method: str, adapter: str) -> dict[str, Any]:
    how = {"name": adapter} | ({} if adapter == "full" else {"rank": peers.RANK, "scale": peers.SCALE})
    settings = {"iters": STEPS, "grad_accumulation_steps": ACCUMULATED, "save_every": STEPS, "batch_size": 3}
    rate = {"learning_rate": RATE, "lr_schedule": "constant", "optimizer": {"name": "adamw", "eps": peers.EPS}}
    return runs.request(base, data, method={"name": method, **METHOD[method]}, adapter=how, **settings, **rate)


def start_of(config: TrainConfig) -> dict[str, mx.array]:
    """What the engine starts to train from: the same draws as its own."""
    model = load_place(config.place, "float32", CPU).loaded.model
    mx.random.seed(config.seed)
    adapters.apply(model, config.adapter)
    return adapters.trained_weights(model)


def rows_in_order(config: TrainConfig) -> tuple[Rows, list[list[list[Any]]]]:
    """All rows, and those of each update's micro-batches."""
    words, method = load_tokenizer(config.model), METHODS[config.method.name].load()(config.method)
    encode = lambda row: method.pieces(row, words, config.max_seq_length)
    rows = batches.read(config.data / "train.jsonl", encode, lambda _: None)
    stream = Stream(rows, ByRows(config.batch_size), Flat(), config.seed)
    micro = [[rows.rows[i] for i in stream.next()[1]] for _ in range(STEPS * ACCUMULATED)]
    return rows, [micro[i : i + ACCUMULATED] for i in range(0, len(micro), ACCUMULATED)]
