"""The arithmetic of the memory plan, on facts that are made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from training.engine.planning.memory_plan import FLOAT, PROGRAM, Block, Calibration, Facts, Plan, Work, make

FACTS = Facts(
    model_type="llama",
    weights=1000,
    adapters=40,
    trained=10,
    optimizer=80,
    number=4,
    hidden=8,
    vocabulary=100,
    heads=2,
    blocks=(Block(50, False), Block(50, True), Block(70, True)),
    cached_numbers=16,
    chunk=1 << 20,
    logits_arrays=3,
)
WORK = Work(tokens=20, scores=200, scores_of_row=150)


def plan(facts: Facts = FACTS, work: Work = WORK, limit: int = 1 << 40, **more: object) -> Plan:
    return make(facts, work, limit, **({"grad_checkpoint": False, "accumulates": False} | more))  # type: ignore[arg-type]


def sizes(made: Plan) -> dict[str, int]:
    return {line.name: line.bytes for line in made.lines}


def test_every_item_is_what_it_says() -> None:
    assert sizes(plan()) == {
        "weights": 1000,
        "adapters": 40,
        "optimizer": 80,
        "program": PROGRAM,
        "activations": (50 + 70 + 70) * 20 * 4,
        "attention": 3 * 2 * 200 * 4,
        "logits": 3 * FLOAT * 20 * 100,
        "gradients": 40,
        "update": 96,
    }


def test_the_total_is_the_largest_moment() -> None:
    made = plan()
    held = sizes(made)
    assert made.base == 1120 + PROGRAM
    assert made.changing == held["activations"] + held["attention"] + held["logits"]
    assert plan(replace(FACTS, trained=10**6)).changing == 2.4 * FLOAT * 10**6
    assert plan(sample_tokens=10**6).changing == 16 * 4 * 10**6


def test_frozen_lower_blocks_keep_nothing() -> None:
    upper = replace(FACTS, blocks=(Block(50, False), Block(50, False), Block(70, True)))
    assert sizes(plan(upper))["activations"] == (70 + 70) * 20 * 4


def test_checkpointing_keeps_inputs_and_one_block() -> None:
    made = sizes(plan(grad_checkpoint=True))
    assert made["activations"] == int(1.45 * 8 * 2 * 20 * 4)
    assert made["recomputed"] == int(2.8 * 70 * 20 * 4)
    assert made["attention"] == (3 * 200 + 10 * 150) * 2 * 4
    deep = replace(FACTS, blocks=FACTS.blocks * 8)
    assert plan(deep, grad_checkpoint=True).changing < 0.4 * plan(deep).changing


def test_logits_are_made_in_chunks() -> None:
    assert sizes(plan(replace(FACTS, chunk=500)))["logits"] == 3 * FLOAT * 2 * 500
    assert sizes(plan(replace(FACTS, chunk=0)))["logits"] == 3 * FLOAT * 20 * 100


def test_sums_of_micro_batches_are_held_besides() -> None:
    assert plan(accumulates=True).changing - plan().changing == FLOAT * 10


def test_a_ratio_changes_what_depends_on_tokens_only() -> None:
    made = plan(calibration=Calibration(3, 1.5, 0.1))
    assert made.base == plan().base
    assert made.changing == pytest.approx(1.5 * plan().changing, abs=4)
    assert made.calibration.words == "Calibrated by 3 runs on this machine, error ± 10 %."


def test_it_fits_up_to_the_limit() -> None:
    total = plan().total
    assert plan(limit=total).fits
    assert not plan(limit=total - 1).fits


def test_rows_in_steps_see_what_lies_before_them() -> None:
    assert Work.of_rows([3], 256) == Work(3, 9, 9)
    longest = 256 * 256 + 256 * 512
    assert Work.of_rows([512, 300], 256) == Work(812, longest + 256 * 256 + 44 * 300, longest)
    assert Work.of_places(4, 10) == Work(40, 400, 400)
    assert Work.of_places(4, 10, tokens=64) == Work(64, 400, 400)


def test_a_program_on_a_gpu_lies_elsewhere() -> None:
    assert "program" not in sizes(plan(on_host=False))
