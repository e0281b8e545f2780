"""Files that hold rows, read as streams: JSONL, JSON, CSV here; Parquet and Arrow in ``columnar.py``.

However broken the file, memory stays bounded and each problem names its place. CSV is read by the
standard library because it alone knows on which line of the file a record begins.
"""

from __future__ import annotations

import codecs
import csv
import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from training.engine.errors import DataError, Problem

MAX_LINE = 8 << 20  # bytes of one source row; more is passed over and reported
_CHUNK = 1 << 20
_BLANK = b" \t\r\n"
_UTF8 = "\ufeff".encode()
_PACKED = {
    b"PK\x03\x04": "a ZIP",
    b"\x1f\x8b": "a gzip",
    b"(\xb5/\xfd": "a Zstandard",
    b"\xfd7zXZ": "an xz",
    b"BZh": "a bzip2",
}
SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather"})
_SHAPE = "Each line of a JSONL file is one JSON object."


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it stands in the source, or the problem that hides it.

    ``line`` is the line of the file on which it begins (JSONL, JSON, CSV) or the row's number
    (Parquet, Arrow), from 1. ``at`` is how many bytes of the file were read, about.
    """

    line: int
    row: Any
    problem: Problem | None = None
    at: int = 0


def read(path: Path, container: str) -> Iterator[Record]:
    """The rows of the ``jsonl``, ``json`` or ``csv`` file ``path`` in order."""
    with open(path, "rb") as file:
        yield from _csv(file, path) if container == "csv" else {"jsonl": _jsonl, "json": _json}[container](file)


def sniff(path: Path) -> str:
    """``jsonl``, ``json``, ``csv``, ``parquet`` or ``arrow``, by content first and by name second.

    Raises DataError: data.missing_file, .not_a_file, .empty_file, .compressed, .encoding, .broken_container,
    .container_unknown.
    """
    head = _head(path)
    for magic, what in _PACKED.items():
        if head.startswith(magic):
            raise DataError(
                "data.compressed", f"{path.name} is {what} archive.", "Unpack it and import what is inside."
            )
    suffix = path.suffix.lower()
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if suffix in (".parquet", ".arrow", ".feather"):
        raise DataError(
            "data.broken_container",
            f"{path.name} does not begin like a {suffix[1:]} file.",
            "It is damaged or was given the wrong name: copy or export it again.",
        )
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or (
        len(head) > 3 and 0 in head[:4] and head[:4].count(0) >= 2
    ):
        raise DataError("data.encoding", f"{path.name} is UTF-16 or UTF-32 text.", "Save it as UTF-8 and try again.")
    text = head.removeprefix(_UTF8).lstrip(_BLANK)
    if suffix in (".csv", ".tsv"):
        return "csv"
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{") or suffix in (".jsonl", ".ndjson", ".json"):
        return "jsonl"
    raise DataError(
        "data.container_unknown",
        f"{path.name} is none of JSONL, JSON, CSV, Parquet and Arrow.",
        "Give it one of these forms, and the ending .csv if it is CSV.",
    )


def _head(path: Path) -> bytes:
    """The first bytes that are not blank, of a regular file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError("data.not_a_file", f"{path.name} is no regular file.", "Give a file or a folder of files.")
        with open(path, "rb") as file:
            head = file.read(4096)
            while head and not head.removeprefix(_UTF8).strip(_BLANK):
                more = file.read(_CHUNK)
                if not more:
                    head = b""
                    break
                head = more
    except FileNotFoundError:
        raise DataError("data.missing_file", f"There is no file {path.name}.", "Check the path.") from None
    except OSError as error:
        raise DataError(
            "data.unreadable", f"{path.name} cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    if not head:
        raise DataError("data.empty_file", f"{path.name} is empty.", "Give a file with at least one row.")
    return head


def lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Number and bytes of each line, None in place of one longer than MAX_LINE."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            while (rest := file.readline(_CHUNK)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        else:
            yield number, line.removeprefix(_UTF8) if number == 1 else line


def too_large(line: int, at: int = 0) -> Record:
    """The record of a row that is longer than MAX_LINE."""
    problem = Problem(
        (), "data.row_too_large", f"The row is larger than {MAX_LINE >> 20} MiB.", "Split it or leave it out."
    )
    return Record(line, None, problem, at)


def _jsonl(file: BinaryIO) -> Iterator[Record]:
    for number, line in lines(file):
        if line is None:
            yield too_large(number, file.tell())
        elif line.strip(_BLANK):
            row, problem = parse(line.strip(_BLANK))
            yield Record(number, row, problem, file.tell())


def parse(line: bytes) -> tuple[Any, Problem | None]:
    """The JSON value in ``line``, or the problem with it."""
    if b"\0" in line:
        place = line.index(b"\0") + 1
        return None, Problem(
            (),
            "data.nul_bytes",
            f"There is a NUL byte at place {place} of the line.",
            "The file is damaged or not text: write it again.",
        )
    try:
        return json.loads(line.decode("utf-8")), None
    except UnicodeDecodeError as error:
        return None, Problem(
            (), "data.not_utf8", f"Byte {error.start + 1} of the line is no UTF-8.", "Save the file as UTF-8."
        )
    except json.JSONDecodeError as error:
        return None, Problem(
            (), "data.not_json", f"No valid JSON at place {error.pos + 1} of the line: {error.msg}.", _SHAPE
        )
    except RecursionError:
        return None, Problem((), "data.too_deep", "The JSON is nested too deeply.", "A row has a few levels at most.")
    except ValueError as error:
        return None, Problem((), "data.not_json", f"No valid JSON: {str(error)[:120]}.", _SHAPE)


def _json(file: BinaryIO) -> Iterator[Record]:
    """The elements of one JSON list, each read as soon as it is complete."""
    source = _Text(file)
    decoder = json.JSONDecoder()
    try:
        source.skip("[")
        while (char := source.skip("")) not in ("", "]"):
            try:
                row, end = source.element(decoder)
            except json.JSONDecodeError as error:
                yield _stopped(source, error.pos, "not_json", f"No valid JSON: {error.msg}.")
                return
            except (RecursionError, ValueError) as error:
                deep = isinstance(error, RecursionError)
                yield _stopped(
                    source,
                    source.pos,
                    "too_deep" if deep else "not_json",
                    "The JSON is nested too deeply." if deep else f"No valid JSON: {str(error)[:120]}.",
                )
                return
            large = end - source.pos > MAX_LINE
            yield too_large(source.line, file.tell()) if large else Record(source.line, row, None, file.tell())
            source.move(end)
            if source.skip("") == ",":
                source.move(source.pos + 1)
            elif source.skip("") != "]":
                yield _stopped(source, source.pos, "not_json", "A comma or the end of the list is missing here.")
                return
        if char != "]":
            yield _stopped(source, source.pos, "not_json", "The list does not end: the file is cut off.")
        else:
            source.move(source.pos + 1)
            if source.skip(""):
                yield _stopped(source, source.pos, "not_json", "There is more text after the end of the list.")
    except UnicodeDecodeError:
        yield _stopped(source, source.pos, "not_utf8", "Here or a little later is a byte that is no UTF-8.")


def _stopped(source: _Text, pos: int, code: str, message: str) -> Record:
    """A problem inside a JSON list, behind which nothing can be read any more."""
    line = source.line + source.buffer.count("\n", source.pos, pos)
    if code == "not_json" and len(source.buffer) - source.pos >= MAX_LINE:
        return too_large(line)
    hint = "Nothing after this place was read. A JSONL file, one row per line, would lose only this row."
    return Record(line, None, Problem((), f"data.{code}", message, hint))


class _Text:
    """A window of decoded text over a file, with the line on which the window's cursor stands."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._ended = False
        self.buffer = ""
        self.pos = 0
        self.line = 1

    def move(self, pos: int) -> None:
        """Set the cursor to ``pos`` of the buffer."""
        self.line += self.buffer.count("\n", self.pos, pos)
        self.pos = pos

    def skip(self, also: str) -> str:
        """Pass over blanks, and over one ``also``; the character then at the cursor, "" at the end."""
        while True:
            while self.pos < len(self.buffer) and self.buffer[self.pos] in " \t\r\n" + also:
                if self.buffer[self.pos] in also:
                    also = ""
                self.move(self.pos + 1)
            if self.pos < len(self.buffer):
                return self.buffer[self.pos]
            if not self._more(_CHUNK):
                return ""

    def element(self, decoder: json.JSONDecoder) -> tuple[Any, int]:
        """The value at the cursor and where it ends. Reads on while it may only be incomplete."""
        want = _CHUNK
        while True:
            try:
                value, end = decoder.raw_decode(self.buffer, self.pos)
                if end < len(self.buffer) or not self._more(_CHUNK):
                    return value, end
            except json.JSONDecodeError:
                if len(self.buffer) - self.pos >= MAX_LINE or not self._more(want):
                    raise
                want *= 2  # so that a long element is tried only a few times

    def _more(self, size: int) -> bool:
        block = b"" if self._ended else self._file.read(size)
        self._ended = self._ended or not block
        text = self._decoder.decode(block, final=self._ended)
        self.buffer = self.buffer[self.pos :] + text
        self.pos = 0
        return bool(text) or not self._ended


def _csv(file: BinaryIO, path: Path) -> Iterator[Record]:
    """Records below a header line; a quoted cell may hold line breaks."""
    csv.field_size_limit(MAX_LINE)
    feed = _Lines(file)
    reader = csv.reader(feed, strict=True, delimiter=_delimiter(path))
    header: list[str] | None = None
    while True:
        line = feed.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = Problem(
                (),
                "data.not_csv",
                f"This record is no valid CSV: {error}.",
                'Put cells with commas, quotes or line breaks in "…" and write quotes inside as "".',
            )
            yield (
                too_large(line, file.tell())
                if "field limit" in str(error)
                else Record(line, None, problem, file.tell())
            )
            continue
        if not cells:
            continue
        if header is None:
            header = [name.strip() for name in cells]
            _check_header(header, path)
        elif feed.too_large:
            feed.too_large = False
            yield too_large(line, file.tell())
        elif len(cells) != len(header):
            problem = Problem(
                (),
                "data.csv_columns",
                f"The record has {len(cells)} cells, the header has {len(header)}.",
                'Is a cell with a comma or a line break not in "…"?',
            )
            yield Record(line, None, problem, file.tell())
        else:
            yield Record(line, dict(zip(header, cells, strict=True)), None, file.tell())


class _Lines:
    """The lines of a CSV file as text. Bytes that are no UTF-8 become lone surrogates, refused later by row."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = lines(file)
        self.number = 0
        self.too_large = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        if line is None:
            self.too_large = True
            return "-\n"
        return line.decode("utf-8", errors="surrogateescape")


def _delimiter(path: Path) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    with open(path, "rb") as file:
        first = file.readline(1 << 16).decode("utf-8", errors="replace")
    return max(",;\t|", key=first.count)  # the first of them wins a draw


def _check_header(header: list[str], path: Path) -> None:
    double = sorted({name for name in header if header.count(name) > 1})
    if double:
        raise DataError(
            "data.csv_header",
            f"{path.name} has two columns named '{double[0][:60]}'.",
            "The first line of a CSV file names its columns, each once.",
        )
