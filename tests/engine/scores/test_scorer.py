"""Scores of a reward model: those of its training, whatever stands beside an answer."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from training.engine.errors import ModelError
from training.engine.folders.places import Place
from training.engine.machine import device
from training.engine.models.tokenizer import load
from training.engine.rows import masks
from training.engine.scores.scorer import Scorer
from training.engine.tuning.fuse import Placed, load_place

ASKED = [{"role": "user", "content": "Why?"}]
ANSWERS = [(ASKED, "So."), (ASKED, "Because it is so, and so much more."), (ASKED, "")]


def placed(folder: Path, *, head: bool = True) -> Placed:
    bare = load_place(Place(model=folder), "float32", device.set_up(0))
    size = bare.loaded.config["hidden_size"]
    return Placed(bare.loaded, {"score.weight": mx.arange(size).reshape(1, size) / size} if head else {})


def scorer(folder: Path, rows: int = 8) -> Scorer:
    return Scorer(placed(folder), load(folder), max_seq_length=64, rows=rows, is_cpu=True)


def test_a_score_is_the_head_on_the_last_hidden_state(tiny_llama: Path) -> None:
    bare = placed(tiny_llama)
    ids = mx.array([masks.answer(*ANSWERS[0], load(tiny_llama)).ids])
    by_hand = (bare.loaded.model.model(ids)[0, -1] @ bare.extras["score.weight"][0]).item()
    assert scorer(tiny_llama).score(ANSWERS)[0] == pytest.approx(by_hand, rel=1e-5)


def test_answers_beside_it_change_nothing(tiny_llama: Path) -> None:
    assert scorer(tiny_llama).score(ANSWERS) == pytest.approx(scorer(tiny_llama, rows=1).score(ANSWERS), rel=1e-5)


def test_a_model_without_a_head_is_refused(tiny_llama: Path) -> None:
    with pytest.raises(ModelError, match="no head that makes a score"):
        Scorer(placed(tiny_llama, head=False), load(tiny_llama), max_seq_length=64, rows=1, is_cpu=True)
