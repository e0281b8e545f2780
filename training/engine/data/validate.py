"""Every row of a data set judged: which row, on which line, is wrong in what way.

The same :class:`Examiner` stands behind the validation of an upload and behind the import, so a file
that validates can be imported. Files are read as streams; memory does not grow with their size
beyond 1,000,000 fingerprints for finding duplicates.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from training.engine.catalog.formats import FORMATS, Format
from training.engine.config.imports import ValidateConfig
from training.engine.data.containers import Record
from training.engine.data.sources import Part, find, read_parts
from training.engine.data.tally import Tally, characters
from training.engine.errors import DataError, Problem
from training.engine.report import Reporter

MAX_ROW = 1 << 20  # bytes of one row in the normal form
MAX_FINGERPRINTS = 1_000_000
FEW_ROWS = 50
LOOK_AHEAD = 100  # rows that are looked at to recognise the format
SAMPLES = 5
_SAMPLE_TEXT = 2000  # characters of one text in a sample


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem at its place in the source. ``line`` 0 means the file as a whole."""

    file: str
    line: int
    problem: Problem
    level: str = "error"

    def as_dict(self) -> dict[str, Any]:
        """``{"file", "line", "level", "loc", "code", "message", "hint"}``."""
        return {"file": self.file, "line": self.line, "level": self.level, **self.problem.as_dict()}

    def as_problem(self) -> Problem:
        """For a DataError: the place becomes part of ``loc`` and of the sentence."""
        place = f"{self.file}, line {self.line}: " if self.line else ""
        inner = self.problem
        return Problem((self.file, self.line, *inner.loc), inner.code, place + inner.message, inner.hint)


@dataclass(slots=True)
class Report:
    """What there is to say about a data set. Lengths are in characters, sizes in bytes."""

    max_problems: int = 20
    data_format: str = ""
    why: str = ""
    columns: list[str] = field(default_factory=list)
    rows: int = 0
    good: int = 0
    bytes: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    characters: int = 0
    longest: int = 0
    shortest: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)
    complete: bool = True

    def note(self, finding: Finding) -> None:
        """Count a finding; keep the first ``max_problems`` of each code."""
        counter = self.counts if finding.level == "error" else self.warnings
        counter[finding.problem.code] += 1
        if counter[finding.problem.code] <= self.max_problems:
            self.findings.append(finding)

    def measure(self, characters: int) -> None:
        """Take a good row of so many characters into the statistics."""
        self.good += 1
        self.characters += characters
        self.longest = max(self.longest, characters)
        self.shortest = characters if self.good == 1 else min(self.shortest, characters)
        self.lengths[max(16, 1 << max(0, characters - 1).bit_length())] += 1

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if not self.data_format:
            return "The data set cannot be read."
        wrong = self.rows - self.good
        problems = f"{wrong:,} of them with problems" if wrong else "no problems"
        return f"{self.rows:,} rows, {problems}."

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values; histogram buckets as [most characters, rows]."""
        return {
            "ok": not self.counts and self.good > 0,
            "sentence": self.sentence,
            "data_format": self.data_format,
            "why": self.why,
            "columns": self.columns,
            "rows": self.rows,
            "good": self.good,
            "bad": self.rows - self.good,
            "bytes": self.bytes,
            "splits": dict(self.splits),
            "counts": dict(self.counts),
            "warnings": dict(self.warnings),
            "problems": [finding.as_dict() for finding in self.findings],
            "samples": self.samples,
            "characters": {
                "total": self.characters, "shortest": self.shortest, "longest": self.longest,
                "mean": round(self.characters / self.good, 1) if self.good else 0,
                "histogram": sorted([edge, rows] for edge, rows in self.lengths.items()),
            },
            "answers": self.tally.as_dict(),
            "complete": self.complete,
        }  # fmt: skip


class Examiner:
    """Judges rows one by one and keeps the report. One for a whole data set, all its files and splits."""

    def __init__(self, row_format: Format, why: str, max_problems: int = 20) -> None:
        self.format = row_format
        self.report = Report(max_problems, row_format.name, why)
        self._seen: dict[int, tuple[str, str, int]] = {}
        self._columns: dict[str, None] = {}

    def feed(self, part: Part, record: Record) -> bytes | None:
        """The row's normal form as one line of JSON without line break, None if it has problems (noted)."""
        report = self.report
        report.rows += 1
        normal, line, problems = check_row(self.format, record)
        for problem in problems:
            report.note(Finding(part.name, record.line, problem))
        if isinstance(record.row, dict) and len(self._columns) < 1000:
            for name in record.row:
                if name not in self._columns:
                    self._columns[str(name)] = None
        if line is None:
            return None
        if len(report.samples) < SAMPLES:
            report.samples.append({"line": record.line, "file": part.name, "row": _shortened(normal)})
        report.measure(characters(normal))
        report.tally.add(normal)
        report.splits[part.split] += 1
        self._compare(part, record.line, line)
        return line

    def finish(self) -> Report:
        """The finished report, with the findings about the set as a whole."""
        report = self.report
        report.columns = list(self._columns)
        if not report.good:
            report.note(
                Finding("", 0, Problem((), "data.no_rows", "No row can be trained on.", "Mend the rows named."))
            )
        elif report.good < FEW_ROWS:
            hint = "A few hundred rows are a good start."
            problem = Problem((), "data.few_rows", f"There are only {report.good} rows.", hint)
            report.note(Finding("", 0, problem, "warning"))
        return report

    def _compare(self, part: Part, line: int, content: bytes) -> None:
        """Warn of a row that was there before, above all in another split."""
        key = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
        before = self._seen.get(key)
        if before is None:
            if len(self._seen) < MAX_FINGERPRINTS:
                self._seen[key] = (part.split, part.name, line)
            return
        split, name, first = before
        where = f"line {first}" if name == part.name else f"{name}, line {first}"
        if split == part.split:
            problem = Problem((), "data.duplicate", f"The row is the same as {where}.", "Doubled rows count double.")
        else:
            problem = Problem(
                (),
                "data.in_two_splits",
                f"The row also stands in {split} ({where}).",
                "What is trained cannot test: remove it from one of the two.",
            )
        self.report.note(Finding(part.name, line, problem, "warning"))


def check_row(row_format: Format, record: Record) -> tuple[dict[str, Any], bytes | None, list[Problem]]:
    """The row's normal form and its bytes, or ({}, None) and all its problems."""
    if record.problem is not None:
        return {}, None, [record.problem]
    if not isinstance(record.row, dict):
        return (
            {},
            None,
            [Problem((), "data.not_object", "The row is no JSON object.", 'A row looks like {"text": "…"}.')],
        )
    normal = row_format.normalise(record.row)
    if isinstance(normal, list):
        return {}, None, normal
    try:
        line = dump(normal)
    except UnicodeEncodeError:
        return (
            {},
            None,
            [
                Problem(
                    (),
                    "data.bad_unicode",
                    "The row holds bytes or half characters that are no Unicode text.",
                    "Save the file as UTF-8.",
                )
            ],
        )
    if len(line) > MAX_ROW:
        return (
            {},
            None,
            [
                Problem(
                    (),
                    "data.row_too_large",
                    f"The row has {len(line):,} bytes; {MAX_ROW:,} is the most.",
                    "Split it or leave it out.",
                )
            ],
        )
    return normal, line, []


def dump(row: dict[str, Any]) -> bytes:
    """The one spelling of a row that is written and hashed."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def examined(
    records: Iterator[tuple[Part, Record]], data_format: str, max_problems: int, max_rows: int = 0
) -> Iterator[tuple[Part, bytes | None, Examiner]]:
    """Every row with its normal line (None: bad) and the examiner that keeps the report.

    Raises DataError when no format is recognised or a file as a whole cannot be read.
    """
    first = list(itertools.islice(records, LOOK_AHEAD))
    row_format, why = _chosen(data_format, [record for _, record in first])
    examiner = Examiner(row_format, why, max_problems)
    for part, record in _limited(itertools.chain(first, records), max_rows, examiner):
        yield part, examiner.feed(part, record), examiner


def _limited(rows: Iterable[Any], most: int, examiner: Examiner) -> Iterator[Any]:
    for count, row in enumerate(rows):
        if most and count >= most:
            examiner.report.complete = False
            return
        yield row


def _chosen(name: str, records: list[Record]) -> tuple[Format, str]:
    if name:
        return FORMATS.named(name), "You chose the format."
    found = FORMATS.recognise(record.row for record in records)
    if found:
        return found
    rows = [record.row for record in records if isinstance(record.row, dict)]
    if not rows:
        problem = next((record.problem for record in records if record.problem), None)
        where = f" Line {records[0].line}: {problem.message}" if problem else ""
        raise DataError(
            "data.no_rows",
            f"None of the first {len(records)} rows can be read.{where}",
            problem.hint if problem else "Give a file with at least one row.",
        )
    columns = ", ".join(f"`{str(name)[:40]}`" for name in list(rows[0])[:12]) or "none"
    known = "; ".join(f"{row.label}: {', '.join(map(str, row.example))}" for row in FORMATS)
    raise DataError(
        "data.unknown_format",
        f"No row format is recognised. The columns are {columns}.",
        f"Rename the columns to those of one format: {known}.",
    )


def examine(parts: list[Part], data_format: str = "", max_problems: int = 20, max_rows: int = 0,
            say: Reporter | None = None) -> Report:  # fmt: skip
    """The report on all rows of ``parts``. A file that cannot be read at all is a finding, not an error."""
    examiner = None
    try:
        for _, _, examiner in examined(read_parts(parts, say), data_format, max_problems, max_rows):  # noqa: B007
            pass
    except DataError as error:
        report = examiner.finish() if examiner else Report(max_problems)
        report.complete = False
        report.note(Finding("", 0, Problem((), error.code, error.message, error.hint)))
    else:
        report = examiner.finish() if examiner else Report(max_problems)
    report.bytes = sum(part.size for part in parts)
    return report


def run(config: ValidateConfig, say: Reporter | None = None) -> dict[str, Any]:
    """``python -m training.engine validate-data``: the report on a file or a folder of files."""
    return examine(find(config.path), config.data_format, config.max_problems, config.max_rows, say).as_dict()


def _shortened(value: Any) -> Any:
    """A sample that is fit for a page: long texts are cut."""
    if isinstance(value, str):
        return value if len(value) <= _SAMPLE_TEXT else value[:_SAMPLE_TEXT] + "…"
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    return [_shortened(item) for item in value[:20]] if isinstance(value, list) else value
