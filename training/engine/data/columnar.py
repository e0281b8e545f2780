"""Parquet and Arrow files as streams of rows. Imports pyarrow: only the data commands come here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from training.engine.catalog.formats import FORMATS
from training.engine.data.containers import Record
from training.engine.errors import DataError

_ROWS = 256  # rows decoded at once
MAX_COLUMNS = 4096


def read(path: Path, container: str) -> Iterator[Record]:
    """The rows of the file, numbered from 1. Only columns that some row format can use are decoded."""
    size = path.stat().st_size
    number = 0
    try:
        batches = _parquet(path) if container == "parquet" else _arrow(path)
        for share, batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield Record(number, row, None, int(share * size))
    except MemoryError:
        raise DataError(
            "data.memory",
            f"{path.name} needs more memory after row {number} than an import may take.",
            "Write it with smaller row groups, or as JSONL.",
        ) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            "data.broken_container",
            f"{path.name} cannot be read after row {number}: {_first(error)}",
            "The file is cut off or damaged: copy or export it again.",
        ) from error
    if number == 0:
        raise DataError("data.empty_file", f"{path.name} holds no rows.", "Give a file with at least one row.")


def _parquet(path: Path) -> Iterator[tuple[float, Any]]:
    # pre_buffer would hold whole row groups; memory_map keeps the file out of our own memory.
    with pa.parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        total, done = max(1, file.metadata.num_rows), 0
        for batch in file.iter_batches(batch_size=_ROWS, columns=_wanted(file.schema_arrow, path), use_threads=False):
            done += batch.num_rows
            yield done / total, batch


def _arrow(path: Path) -> Iterator[tuple[float, Any]]:
    with pa.memory_map(str(path)) as source:
        file_form = source.read(6) == b"ARROW1"
        source.seek(0)
        if file_form:
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            reader = pa.ipc.open_stream(source)
            batches = iter(reader)
        wanted, size = _wanted(reader.schema, path), max(1, path.stat().st_size)
        for batch in batches:
            batch = batch.select(wanted)
            for start in range(0, batch.num_rows, _ROWS):
                yield min(1.0, source.tell() / size), batch.slice(start, _ROWS)


def _wanted(schema: Any, path: Path) -> list[str]:
    """The columns to decode: those that formats know, or all when there are none, so that they can be named."""
    names = list(schema.names)
    if len(names) > MAX_COLUMNS:
        raise DataError(
            "data.too_many_columns",
            f"{path.name} has {len(names)} columns; {MAX_COLUMNS} is the most.",
            "Keep only the columns that hold the text.",
        )
    known = {column for row in FORMATS for column in row.columns}
    return [name for name in names if name in known] or names


def _first(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
