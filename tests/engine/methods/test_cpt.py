"""Continued pre-training: every token of a text but the first is a target once, however long the text."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from training.engine.catalog.supervised_methods import Cpt as Settings
from training.engine.methods.cpt import Cpt
from training.engine.models.tokenizer import load
from training.engine.rows import masks


@pytest.mark.parametrize("length", [8, 13, 64, 4096])
@pytest.mark.parametrize("words", [1, 6, 7, 40])
def test_every_token_is_a_target_once(length: int, words: int, tiny_llama: Path) -> None:
    tokenizer = load(tiny_llama)
    row = {"text": " ".join(f"word{i}" for i in range(words))}
    ids = masks.encode(row, tokenizer, "all").ids
    pieces = [example.parts[0] for example in Cpt(Settings()).pieces(row, tokenizer, length)]
    assert [token for piece in pieces for token in piece.ids[1:]] == ids[1:]
    assert all(piece.ids[0] == before.ids[-1] for before, piece in pairwise(pieces))
    assert all(
        len(piece.ids) <= length and piece.trained == [False] + [True] * (len(piece.ids) - 1) for piece in pieces
    )
    assert sum(example.targets for example in Cpt(Settings()).pieces(row, tokenizer, length)) == len(ids) - 1
