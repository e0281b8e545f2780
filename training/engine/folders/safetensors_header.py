"""Reads the header of a safetensors file with a bound on everything, before MLX may see the file.

Format: 8 bytes little-endian length, so many bytes of JSON, then the tensors without gaps.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.engine.errors import ModelError

MAX_HEADER = 100 << 20  # bytes, the format's own limit
MAX_TENSORS = 1 << 20
MAX_DIMS = 16
_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32,
    "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor: the type's name as in the file, shape, first and last byte after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read(path: Path) -> dict[str, Entry]:
    """The checked table of tensors in ``path``.

    Raises ModelError: ``model.safetensors_truncated`` or ``model.safetensors_broken`` (a length,
    shape or offset that cannot be, a name that stands twice).
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = file.read(8)
        if len(first) < 8:
            raise _truncated(path, size, 8)
        (length,) = struct.unpack("<Q", first)
        if length > MAX_HEADER:
            raise _broken(path, f"a header of {length} bytes")
        if 8 + length > size:
            raise _truncated(path, size, 8 + length)
        raw = file.read(length)
    try:
        table = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _broken(path, str(error)[:120]) from None
    if not isinstance(table, dict) or len(table) > MAX_TENSORS:
        raise _broken(path, "no table of tensors")
    table.pop("__metadata__", None)
    entries = {name: _entry(path, name, value) for name, value in table.items()}
    _check_places(path, entries, size - 8 - length)
    return entries


def _check_places(path: Path, entries: dict[str, Entry], room: int) -> None:
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != end:
            raise _broken(path, f"tensor '{name[:80]}' begins at {entry.begin} instead of {end}")
        end = entry.end
    if end > room:
        raise _truncated(path, path.stat().st_size, path.stat().st_size - room + end)
    if end < room:
        raise _broken(path, f"{room - end} bytes belong to no tensor")


def _entry(path: Path, name: str, value: Any) -> Entry:
    try:
        dtype, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _broken(path, f"tensor '{name[:80]}' lacks type, shape or place") from None
    numbers = (*shape, begin, end)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 48 for n in numbers)
    if dtype not in _BITS or not whole or len(shape) > MAX_DIMS:
        raise _broken(path, f"tensor '{name[:80]}' has type {str(dtype)[:20]} and shape {str(shape)[:80]}")
    bits = _BITS[dtype]
    for extent in shape:
        bits *= extent
    if end - begin != bits // 8:
        raise _broken(path, f"tensor '{name[:80]}' takes {end - begin} bytes but its shape needs {bits // 8}")
    return Entry(dtype, shape, begin, end)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice")
    return result


_HINT = "Fetch the file again and compare its size and checksum with those at its source."


def _truncated(path: Path, size: int, needed: int) -> ModelError:
    return ModelError(
        "model.safetensors_truncated",
        f"{path.name} has {size:,} bytes but should have at least {needed:,}: it is cut off.",
        _HINT,
    )


def _broken(path: Path, what: str) -> ModelError:
    return ModelError("model.safetensors_broken", f"The header of {path.name} is damaged: {what}.", _HINT)
