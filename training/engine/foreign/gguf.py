"""Reads the header of a GGUF file with a bound on everything, before MLX may see the file.

MLX's own reader trusts the file: counts, lengths, dimensions and offsets of a damaged or malicious
one lead it to read outside its memory. What passes here lies wholly inside the file.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.engine.errors import ModelError

MAX_METADATA = 4096  # entries
MAX_TENSORS = 65_536
MAX_STRING = 16 << 20  # bytes
MAX_ARRAY = 4 << 20  # entries; vocabularies have at most some hundred thousand
MAX_HEADER = 512 << 20  # bytes
MAX_DIMS = 4
MAX_ALIGNMENT = 1 << 16  # bytes

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}


@dataclass(frozen=True, slots=True)
class TensorType:
    """How numbers are stored: ``block`` of them take ``size`` bytes."""

    name: str
    block: int
    size: int
    readable: bool = True  # by MLX, with the right values (measured)


TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    # MLX 0.32.4 refuses Q5_0, Q5_1, Q3_K and Q5_K and reads Q4_K with wrong values (up to 345 beside 775
    # on random blocks); Q2_K and Q6_K never stand without one of those in real files.
    6: TensorType("Q5_0", 32, 22, readable=False),
    7: TensorType("Q5_1", 32, 24, readable=False),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 36, readable=False),
    10: TensorType("Q2_K", 256, 84, readable=False),
    11: TensorType("Q3_K", 256, 110, readable=False),
    12: TensorType("Q4_K", 256, 144, readable=False),
    13: TensorType("Q5_K", 256, 176, readable=False),
    14: TensorType("Q6_K", 256, 210, readable=False),
    15: TensorType("Q8_K", 256, 292, readable=False),
    30: TensorType("BF16", 1, 2),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor lies. ``shape`` is in MLX's order: the contiguous axis last."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int  # bytes from the start of the file
    bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """Metadata (numbers, strings, bools and flat lists of them) and the table of tensors."""

    version: int
    metadata: dict[str, Any] = field(repr=False)
    tensors: dict[str, Tensor] = field(repr=False)


def read(path: Path) -> Header:
    """The checked header of ``path``.

    Raises ModelError: ``model.gguf_missing``, ``model.not_gguf``, ``model.gguf_version``,
    ``model.gguf_truncated``, ``model.gguf_broken`` (a count, length, type or offset that cannot be)
    or ``model.gguf_type`` (stored in a way that MLX cannot read).
    """
    try:
        with open(path, "rb") as file:
            if file.seek(0, 2) < 24:
                raise ModelError("model.not_gguf", f"{path.name} is too short to be a GGUF file.", _HINT_WHICH)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _Reader(view, path.name).header()
    except FileNotFoundError:
        raise ModelError("model.gguf_missing", f"There is no file {path}.", "Check the path.") from None
    except OSError as error:
        raise ModelError("model.gguf_missing", f"{path} cannot be read: {error.strerror}.", "Check the path.") from None


_HINT_WHICH = "Give the .gguf file itself, not a page or a folder that leads to it."
_HINT_AGAIN = "Fetch the file again and compare its size and checksum with those at its source."


class _Reader:
    """Walks through the header; every step is checked against the file's size."""

    def __init__(self, view: mmap.mmap, name: str) -> None:
        self._view = view
        self._size = len(view)
        self._at = 0
        self._name = name

    def header(self) -> Header:
        if self._view[:4] != b"GGUF":
            raise ModelError("model.not_gguf", f"{self._name} is no GGUF file.", _HINT_WHICH)
        self._at = 4
        version = self._number("<I")
        if version not in (2, 3):
            raise ModelError(
                "model.gguf_version",
                f"{self._name} has GGUF version {version}; known are 2 and 3, little endian.",
                "Convert the model again with a present llama.cpp.",
            )
        tensors = self._count("tensors", MAX_TENSORS)
        entries = self._count("metadata entries", MAX_METADATA)
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = self._string()
            if key in metadata:
                raise self._broken(f"the metadata name '{key[:80]}' stands twice")
            metadata[key] = self._value(self._number("<I"))
        infos = [self._tensor_info() for _ in range(tensors)]
        return Header(version, metadata, self._place(infos, metadata))

    def _place(self, infos: list[tuple[str, tuple[int, ...], TensorType, int]], metadata: dict[str, Any]) -> Any:
        """Tensors with their place in the file: aligned, inside, and none upon another."""
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
            raise self._broken(f"an alignment of {alignment!r} bytes")
        start = -(-self._at // alignment) * alignment
        placed: dict[str, Tensor] = {}
        for name, shape, kind, offset in infos:
            length = 1
            for extent in shape:
                length *= extent
            size = length // kind.block * kind.size
            if name in placed:
                raise self._broken(f"tensor '{name}' stands twice")
            if offset % alignment:
                raise self._broken(f"tensor '{name}' begins at {offset}, not at a multiple of {alignment}")
            if start + offset + size > self._size:
                raise self._truncated(start + offset + size)
            placed[name] = Tensor(name, shape, kind, start + offset, size)
        end = 0
        for tensor in sorted(placed.values(), key=lambda t: t.offset):
            if tensor.offset < end:
                raise self._broken(f"tensor '{tensor.name}' overlaps the one before it")
            end = tensor.offset + tensor.bytes
        return placed

    def _tensor_info(self) -> tuple[str, tuple[int, ...], TensorType, int]:
        name = self._string()
        dims = self._number("<I")
        if not 1 <= dims <= MAX_DIMS or len(name) > 64 or not name:
            raise self._broken(f"tensor '{name[:80]}' with {dims} dimensions")
        shape = tuple(self._number("<Q") for _ in range(dims))
        type_id, offset = self._number("<I"), self._number("<Q")
        if any(not 1 <= extent <= 1 << 40 for extent in shape) or offset > self._size:
            raise self._broken(f"tensor '{name}' has the shape {shape} at {offset}")
        kind = TYPES.get(type_id)
        if kind is None or not kind.readable:
            raise ModelError(
                "model.gguf_type",
                f"Tensor '{name}' is stored as {kind.name if kind else f'type {type_id}'}, which MLX cannot read.",
                "Take the F16, BF16, Q8_0, Q4_0 or Q4_1 file of this model.",
            )
        if shape[0] % kind.block:
            raise self._broken(f"rows of tensor '{name}' have {shape[0]} numbers, no multiple of {kind.block}")
        return name, shape[::-1], kind, offset

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise self._broken(f"a metadata value of type {kind}")
        value = self._number(_SCALARS[kind])
        return bool(value) if kind == _BOOL else value

    def _array(self) -> list[Any]:
        kind = self._number("<I")
        length = self._count("entries of a list", MAX_ARRAY)
        if kind == _STRING:
            return [self._string() for _ in range(length)]
        if kind not in _SCALARS:
            raise self._broken(f"a metadata list of type {kind}")
        code = _SCALARS[kind]
        block = self._take(length * struct.calcsize(code))
        values = list(struct.unpack(f"<{length}{code[1]}", block))
        return [bool(v) for v in values] if kind == _BOOL else values

    def _string(self) -> str:
        length = self._count("bytes of a text", MAX_STRING)
        # Vocabularies of byte-level models are valid UTF-8; a damaged byte must not end the reading.
        return self._take(length).decode("utf-8", errors="replace")

    def _count(self, what: str, most: int) -> int:
        number = int(self._number("<Q"))
        if number > most:
            raise self._broken(f"{number} {what}, more than {most} are not read")
        return number

    def _number(self, code: str) -> Any:
        return struct.unpack(code, self._take(struct.calcsize(code)))[0]

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > self._size:
            raise self._truncated(end)
        if end > MAX_HEADER:
            raise self._broken("its header is longer than 512 MiB")
        block = self._view[self._at : end]
        self._at = end
        return block

    def _truncated(self, needed: int) -> ModelError:
        return ModelError(
            "model.gguf_truncated",
            f"{self._name} has {self._size:,} bytes but should have at least {needed:,}: it is cut off.",
            _HINT_AGAIN,
        )

    def _broken(self, what: str) -> ModelError:
        return ModelError("model.gguf_broken", f"The header of {self._name} is damaged: {what}.", _HINT_AGAIN)
