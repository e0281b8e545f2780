"""The safetensors header reader: nothing broken gets past it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from training.engine.errors import ModelError
from training.engine.folders import safetensors_header

GOOD: dict[str, Any] = {
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
    "__metadata__": {"format": "mlx"},
}


def file(path: Path, table: Any, data: int = 22) -> Path:
    raw = table if isinstance(table, bytes) else json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(data))
    return path


def code_of(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        safetensors_header.read(path)
    return error.value.code.removeprefix("model.safetensors_")


def test_reads_real_files(tiny_llama: Path, tiny_quantised: Path) -> None:
    assert safetensors_header.read(tiny_llama / "model.safetensors")["model.norm.weight"].shape == (64,)
    packed = safetensors_header.read(tiny_quantised / "model.safetensors")
    assert packed["model.embed_tokens.weight"].dtype == "U32"


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = file(tmp_path / "m", GOOD).read_bytes()
    assert set(safetensors_header.read(tmp_path / "m")) == {"a", "b"}
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        assert code_of(tmp_path / "cut") == "truncated"


def changed(**change: Any) -> dict[str, Any]:
    return GOOD | {"b": GOOD["b"] | change}


@pytest.mark.parametrize(
    "table",
    [
        b"{",
        b"[" * 100_000,
        b"[]",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, "a": {}}',
        changed(dtype="OBJ"),
        changed(shape=[-3]),
        changed(shape=[True]),
        changed(shape=[1 << 60]),
        changed(shape=[1] * 17),
        changed(shape=[4]),
        changed(data_offsets=[12, 18]),
        changed(data_offsets=[18, 24]),
        changed(data_offsets=[16]),
        changed(data_offsets=[22, 16]),
        {"a": GOOD["a"]},
    ],
)
def test_impossible_tables_are_refused(table: Any, tmp_path: Path) -> None:
    assert code_of(file(tmp_path / "m", table)) == "broken"


def test_a_header_of_a_terabyte_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    assert code_of(tmp_path / "m") == "broken"
