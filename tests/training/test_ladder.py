"""The ladder ends, and each rung is an allowed training that asks for less."""

from __future__ import annotations

from typing import Any

import pytest

from tests.training.test_autoconfig import CARD, CPU, DATA, SMALL
from training.autoconfig import propose
from training.engine.catalog.methods import METHODS
from training.engine.config.training import TrainSettings, check
from training.ladder import rungs


def walked(**settings: Any) -> list[str]:
    return [rung.says for rung in rungs(check(TrainSettings, settings), SMALL, DATA)]


def test_the_cheapest_comes_first() -> None:
    assert walked(batch_size=2, max_seq_length=512) == [
        "Gradient checkpointing: about a third more time, the same result.",
        "Micro-batches of 1 row, 2 to an update: the same updates.",
        "Rows of at most 256 tokens: up to 1% of them lose their end.",
        "Only the upper 15 blocks are trained.",
        "Only the upper 7 blocks are trained.",
    ]


def test_full_fine_tuning_becomes_lora() -> None:
    said = walked(adapter="full", batch_size=1, grad_checkpoint=True, max_seq_length=256)
    assert said[:2] == [
        "AdamW keeps its memory in 8 bits.",
        "LoRA in place of full fine-tuning, with ten times the rate.",
    ]


def test_a_budget_of_tokens_is_halved() -> None:
    assert "Micro-batches of 1,024 tokens, 4 to an update: about the same updates." in walked(
        batch_tokens=4096, grad_accumulation_steps=1
    )


@pytest.mark.parametrize("method", METHODS.names)
@pytest.mark.parametrize("machine", [CPU, CARD], ids=lambda m: m.backend)
def test_every_proposal_can_be_walked_down(method: str, machine: Any) -> None:
    settings = check(TrainSettings, propose(method, SMALL, DATA, machine).settings)
    found = list(rungs(settings, SMALL, DATA))
    assert found[-1].settings.adapter.model_dump()["num_layers"] == 7
    assert len({rung.settings.model_dump_json() for rung in found}) == len(found) < 20
