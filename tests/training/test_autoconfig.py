"""Proposals: every method on every machine gets settings that are allowed, each with a reason."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from training.autoconfig import DataFacts, MachineFacts, ModelFacts, hours_on_cpu, nested, propose
from training.engine.catalog.methods import METHODS
from training.engine.config.training import TrainSettings, check

CPU, MAC, CARD = (
    MachineFacts("cpu", 2, 24 << 30),
    MachineFacts("metal", 10, 32 << 30),
    MachineFacts("cuda", 16, 140 << 30),
)
SMALL = ModelFacts(135_000_000, 30, 8192, vocabulary=49_152)
LARGE = ModelFacts(32_000_000_000, 64, 32_768, quantized=True)
LENGTHS = ((64, 100), (128, 600), (256, 95), (1024, 5))
DATA = DataFacts("chat", 800, 40, tokens=80_000, histogram=LENGTHS, longest=900)
UNKNOWN = DataFacts("chat", 3)


@pytest.mark.parametrize("method", METHODS.names)
@pytest.mark.parametrize("machine", [CPU, MAC, CARD], ids=lambda m: m.backend)
def test_every_method_gets_allowed_settings_with_reasons(method: str, machine: MachineFacts) -> None:
    for model, data in itertools.product((SMALL, LARGE, ModelFacts(0, 0, 0)), (DATA, UNKNOWN)):
        proposal = propose(method, model, data, machine)
        assert check(TrainSettings, proposal.settings).method.name == method
        assert all(reason.why.endswith(".") for reason in proposal.reasons)


@pytest.mark.parametrize(
    ("data_format", "method"),
    [("chat", "sft"), ("alpaca", "sft"), ("text", "cpt"), ("preference", "dpo"), ("kto", "kto"), ("prompts", "grpo")],
)
def test_the_format_suggests_a_method_that_reads_it(data_format: str, method: str) -> None:
    proposal = propose(None, SMALL, replace(DATA, data_format=data_format, has_answers=True), CPU)
    assert proposal.method == method and proposal.warnings == ()


@pytest.mark.parametrize(
    ("path", "data", "model", "machine", "value"),
    [
        ("batch_size", DATA, SMALL, CPU, 4),
        ("grad_accumulation_steps", DATA, SMALL, CPU, 4),
        ("batch_tokens", DATA, SMALL, CARD, 2048),
        ("batch_tokens", replace(DATA, rows=10**6, tokens=400_000), SMALL, CARD, 16384),
        ("batch_tokens", replace(DATA, rows=10**6, tokens=400_000), SMALL, replace(CARD, memory=16 << 30), 8192),
        ("adapter.rank", DATA, SMALL, CPU, 8),
        ("adapter.rank", replace(DATA, rows=50_000), SMALL, CPU, 32),
        ("learning_rate", DATA, SMALL, CPU, 2e-4),
        ("learning_rate", DATA, LARGE, CPU, 5e-5),
        ("epochs", DATA, SMALL, CPU, 3),
        ("epochs", replace(DATA, rows=50_000), SMALL, CPU, 1),
        ("max_seq_length", DATA, SMALL, CPU, 256),  # 5 of 800 rows are longer
        ("max_seq_length", replace(DATA, longest=300), SMALL, CPU, 320),  # none is much longer
        ("max_seq_length", replace(DATA, longest=300), replace(SMALL, context=200), CPU, 200),
        ("max_seq_length", UNKNOWN, SMALL, CPU, 1024),
    ],
)
def test_rules(path: str, data: DataFacts, model: ModelFacts, machine: MachineFacts, value: float) -> None:
    found = {reason.path: reason.value for reason in propose("sft", model, data, machine).reasons}
    assert found[path] == value


@pytest.mark.parametrize("share", [0.1, 0.2, 0.45, 0.5, 0.55, 0.9])
def test_rare_labels_weigh_more(share: float) -> None:
    settings = check(TrainSettings, propose("kto", SMALL, replace(DATA, good_share=share), CPU).settings)
    method = settings.method.model_dump()
    ratio = method["desirable_weight"] * share / (method["undesirable_weight"] * (1 - share))
    assert 0.99 <= ratio <= 4 / 3  # the paper's range


def test_a_rollout_is_one_update() -> None:
    settings = check(TrainSettings, propose("grpo", SMALL, DATA, CARD).settings)
    method = settings.method.model_dump()
    answers = method["rollout_batch"] * method["num_generations"]
    assert answers == settings.batch_size * settings.grad_accumulation_steps


def test_what_is_missing_is_said() -> None:
    bare = replace(DATA, data_format="prompts", valid_rows=0)
    warnings = propose(None, SMALL, bare, CPU).warnings
    assert [text.split(":")[0] for text in warnings] == ["There are no validation rows"]


def test_a_large_model_on_a_cpu_takes_long() -> None:
    proposal = propose("sft", LARGE, replace(DATA, tokens=10**6), CPU)
    assert hours_on_cpu(check(TrainSettings, proposal.settings), LARGE, replace(DATA, tokens=10**6), CPU) > 1000
    assert any("hours on this CPU" in text for text in proposal.warnings)


def test_paths_become_blocks() -> None:
    made = nested({"adapter": "lora", "adapter.rank": 8, "epochs": 1.0})
    assert made == {"adapter": {"name": "lora", "rank": 8}, "epochs": 1.0}
