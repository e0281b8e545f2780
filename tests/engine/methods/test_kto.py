"""KTO: each row brings along the answer of the next one, and z₀ is their mean over the micro-batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.methods.test_gates import Ready
from training.engine.methods.kto import OTHER, REFERENCE
from training.engine.rows.layouts import Flat


@pytest.fixture
def ready(tiny_llama: Path, tmp_path: Path) -> Ready:
    return Ready(tmp_path / "data", "kto", tiny_llama)


def test_the_second_part_is_the_next_rows_answer_behind_ones_own_question(ready: Ready) -> None:
    for one, other in zip(ready.rows.rows, [*ready.rows.rows[1:], ready.rows.rows[0]], strict=True):
        own, foreign = one.parts
        start = own.trained.index(True)
        answer = [token for token, trained in zip(other.parts[0].ids, other.parts[0].trained, strict=True) if trained]
        assert foreign.ids[:start] == own.ids[:start]
        assert [t for t, trained in zip(foreign.ids, foreign.trained, strict=True) if trained] == answer


def test_z0_is_the_mean_of_how_far_the_other_answers_moved(ready: Ready) -> None:
    batch = Flat().lay(ready.rows.rows[:3])
    sums, _ = ready.method.log_probs(batch, 2)  # type: ignore[attr-defined]
    moved = sum(sums[:, 1].tolist()) - sum(batch.numbers[OTHER].tolist())
    terms, _ = ready.result(Flat(), [0, 1, 2])
    assert terms["kl"] == pytest.approx(max(0.0, moved / 3), abs=1e-5)
    assert {REFERENCE, OTHER} <= batch.numbers.keys()


def test_one_row_alone_is_its_own_neighbour(tiny_llama: Path, tmp_path: Path) -> None:
    ready = Ready(tmp_path / "data", "kto", tiny_llama, count=1)
    assert ready.rows.rows[0].parts[0] == ready.rows.rows[0].parts[1]
