"""The GGUF header reader: what it reads, and that nothing broken gets past it."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import gguf_file
from training.engine.errors import ModelError
from training.engine.foreign import gguf

TENSORS = {"a.weight": (np.arange(128, dtype=np.float32).reshape(2, 64), "F32")}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    entries = {"name": "n", "whole": 7, "real": 0.5, "yes": True, "words": ["a", "Ġb"], "numbers": [1, -2]}
    return gguf_file.write(tmp_path / "small.gguf", entries, TENSORS)


def code_of(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        gguf.read(path)
    assert error.value.message.endswith(".")
    assert error.value.hint
    return error.value.code


def test_reads_metadata_and_places(small: Path) -> None:
    header = gguf.read(small)
    assert header.metadata == {
        "name": "n", "whole": 7, "real": 0.5, "yes": True, "words": ["a", "Ġb"], "numbers": [1, -2],
    }  # fmt: skip
    tensor = header.tensors["a.weight"]
    assert tensor.shape == (2, 64)
    assert small.read_bytes()[tensor.offset :][: tensor.bytes] == TENSORS["a.weight"][0].tobytes()


def test_a_file_cut_anywhere_is_refused(small: Path, tmp_path: Path) -> None:
    whole, cut = small.read_bytes(), tmp_path / "cut.gguf"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        assert code_of(cut) in ("model.not_gguf", "model.gguf_truncated")


def test_says_how_much_is_missing(small: Path) -> None:
    size = small.stat().st_size
    small.write_bytes(small.read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"{size - 100:,} bytes but should have at least {size:,}"):
        gguf.read(small)


def test_random_damage_never_leaves_the_file(small: Path, tmp_path: Path) -> None:
    """Whatever the bytes: either ModelError, or every tensor lies inside the file."""
    whole, hurt, rng = small.read_bytes(), tmp_path / "hurt.gguf", random.Random(1)
    refused = 0
    for _ in range(3000):
        raw = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            raw[rng.randrange(4, 330)] = rng.choice([0, 1, 0x7F, 0xFF, rng.randrange(256)])
        hurt.write_bytes(raw)
        try:
            header = gguf.read(hurt)
        except ModelError:
            refused += 1
        else:
            assert all(t.offset + t.bytes <= len(raw) for t in header.tensors.values())
    assert refused > 1000


def head(tensors: int, entries: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, entries)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"<html>" + b" " * 60, "model.not_gguf"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "model.gguf_version"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "model.gguf_version"),
        (head(1 << 60, 0), "model.gguf_broken"),
        (head(0, 1 << 60), "model.gguf_broken"),
        (head(0, 1) + struct.pack("<Q", 1 << 62), "model.gguf_broken"),
        (head(0, 1) + struct.pack("<Q", 1000), "model.gguf_truncated"),
        (head(0, 1) + struct.pack("<Q1sI", 1, b"k", 99), "model.gguf_broken"),
        (head(0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 1 << 40), "model.gguf_broken"),
        (head(0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 9, 1), "model.gguf_broken"),
        (head(0, 2) + struct.pack("<Q1sIB", 1, b"k", 0, 1) * 2, "model.gguf_broken"),
        (head(1, 0) + struct.pack("<Q1sI", 1, b"t", 9), "model.gguf_broken"),
        (head(1, 0) + struct.pack("<Q1sI2QIQ", 1, b"t", 2, 1 << 50, 4, 0, 0), "model.gguf_broken"),
        (head(1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 1 << 39, 0, 0), "model.gguf_truncated"),
        (head(1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 8, 12, 0), "model.gguf_type"),
        (head(1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 8, 77, 0), "model.gguf_type"),
        (head(1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 33, 8, 0), "model.gguf_broken"),
        (head(1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 1, 0, 8) + bytes(64), "model.gguf_broken"),
        (head(2, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 1, 0, 0) * 2 + bytes(64), "model.gguf_broken"),
        (head(0, 1) + struct.pack("<Q17sII", 17, b"general.alignment", 4, 3), "model.gguf_broken"),
        (head(0, 1) + struct.pack("<Q17sII", 17, b"general.alignment", 4, 0), "model.gguf_broken"),
    ],
)
def test_impossible_headers_are_refused(tmp_path: Path, raw: bytes, code: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(raw)
    assert code_of(path) == code


def test_overlapping_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    rows = [struct.pack("<Q1sIQIQ", 1, name, 1, 32, 0, offset) for name, offset in ((b"a", 0), (b"b", 64))]
    path.write_bytes(head(2, 0) + b"".join(rows) + bytes(512))
    assert code_of(path) == "model.gguf_broken"


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert code_of(tmp_path / "none.gguf") == "model.gguf_missing"
    assert code_of(tmp_path) == "model.gguf_missing"
