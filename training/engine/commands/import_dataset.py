"""Rows from a file, a folder, the Hub or this machine's Python, made into a data set version.

One pass reads, judges and normalises; rows without a split of their own then get one by the hash of
their content and the seed, so that a row's split does not depend on where it stood, and equal rows
never lie on both sides. Of rows that are compared or judged the prompt alone is hashed: other answers
to the same prompt would give away what a test asks.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from training.engine.config.imports import FileSource, HubDataSource, ImportDatasetConfig, PythonDocsSource
from training.engine.data import python_docs, python_lessons
from training.engine.data.containers import Record
from training.engine.data.sources import POOL, SPLITS, Part, find, read_parts
from training.engine.data.validate import Report, dump, examined
from training.engine.data.version_folder import Draft, storage_error, write_line
from training.engine.errors import DataError
from training.engine.report import Reporter, Silent

MAX_PROBLEMS = 50  # of each kind, listed in the refusal
Rows = Iterator[tuple[Part, Record]]


@dataclass(frozen=True, slots=True)
class _Source:
    rows: Rows
    about: dict[str, Any]
    given: frozenset[str]
    """Splits that the source itself makes; they are kept as they are."""


def run(config: ImportDatasetConfig, say: Reporter | None = None) -> dict[str, Any]:
    """``python -m training.engine import-dataset``. Nothing appears in ``config.target`` unless it is complete.

    Returns ``{"sha256", "path", "data_format", "rows": {split: n}, "bytes", "already_there", "report"}``.
    Raises DataError (``problems`` name file and line of bad rows) and StorageError.
    """
    say = say or Silent()
    source = _open(config, say)
    draft = Draft(config.target)
    try:
        try:
            report = _read(config, source, draft.folder)
            _split(config, source.given, draft.folder, say)
        except OSError as error:
            # Reading has its own DataErrors; what is left here is the disk that we write to.
            raise storage_error(error) from error
        about = {"source": source.about, "seed": config.seed, "report": report.as_dict()}
        path, name, already_there = draft.publish(report.data_format, about)
    finally:
        draft.drop()
    rows = {split: n for split in SPLITS if (n := _count(path / f"{split}.jsonl"))}
    say.phase("done", sum(rows.values()), sum(rows.values()), ", ".join(f"{split} {n:,}" for split, n in rows.items()))
    if "valid" not in rows:
        say.log("There are no rows for validation: the loss on unseen rows will not be known.", "warning")
    return {
        "sha256": name,
        "path": str(path),
        "data_format": report.data_format,
        "rows": rows,
        "bytes": sum((path / f"{split}.jsonl").stat().st_size for split in rows),
        "already_there": already_there,
        "report": report.as_dict(),
    }


def _open(config: ImportDatasetConfig, say: Reporter) -> _Source:
    source = config.source
    about = source.model_dump(mode="json")
    if isinstance(source, FileSource):
        parts = find(source.path)
        given = frozenset(part.split for part in parts) - {POOL}
        return _Source(read_parts(parts, say), about, given)
    if isinstance(source, PythonDocsSource):
        shares = (config.valid_share, config.test_share)
        rows = python_lessons.rows(source.form, source.limit, *shares, seed=config.seed, say=say)
        return _Source(rows, about | {"python": python_docs.VERSION}, frozenset(SPLITS))
    assert isinstance(source, HubDataSource)
    from training.engine.data import hub_data  # late: `datasets` costs 167 MB and 2.8 s, and files need it not

    rows, given, commit = hub_data.rows(source, say)
    return _Source(rows, about | {"commit": commit}, given)


def _read(config: ImportDatasetConfig, source: _Source, folder: Path) -> Report:
    """Judge all rows and write the good ones: those for validation and test, and the rest as ``pool``."""
    examiner = None
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for name in (POOL, "valid", "test"):
            files[name] = stack.enter_context(open(folder / f"{name}.jsonl", "wb"))
        rows = examined(source.rows, config.data_format, MAX_PROBLEMS, config.max_rows)
        for part, line, examiner in rows:
            if line is not None and (config.skip_bad_rows or not examiner.report.counts):
                write_line(files[part.split if part.split in ("valid", "test") else POOL], line)
    if examiner is None:
        raise DataError("data.no_rows", "There are no rows.", "Give a source with at least one row.")
    report = examiner.finish()
    if report.counts and (not config.skip_bad_rows or not report.good):
        raise _refusal(report)
    return report


def _refusal(report: Report) -> DataError:
    problems = [finding.as_problem() for finding in report.findings if finding.level == "error"]
    wrong = report.rows - report.good
    return DataError(
        "data.bad_rows",
        f"{wrong:,} of {report.rows:,} rows have problems. {problems[0].message}",
        "Mend the rows, or import again and leave out rows with problems.",
        problems=problems,
    )


def _split(config: ImportDatasetConfig, given: frozenset[str], folder: Path, say: Reporter) -> None:
    """Put each row of the pool into train, valid or test."""
    pool = folder / f"{POOL}.jsonl"
    keys = array("Q")
    with open(pool, "rb") as file:
        keys.extend(_key(line, config.seed) for line in file)
    if not keys:
        raise DataError(
            "data.no_train",
            "There are no rows to train on, only some to test with.",
            "Add a file named train, or name the file otherwise.",
        )
    test, valid = thresholds(
        keys,
        0.0 if "test" in given else config.test_share,
        0.0 if "valid" in given else config.valid_share,
    )
    with ExitStack() as stack:
        names = {split: stack.enter_context(open(folder / f"{split}.jsonl", "ab")) for split in SPLITS}
        with open(pool, "rb") as file:
            for done, (key, line) in enumerate(zip(keys, file, strict=True), 1):
                names["test" if key < test else "valid" if key < valid else "train"].write(line)
                if done % 10_000 == 0:
                    say.phase("split", done, len(keys))
    pool.unlink()


def thresholds(keys: array[int], test_share: float, valid_share: float) -> tuple[int, int]:
    """Keys below the first belong to test, below the second to valid, all others to train.

    A wanted split gets at least one row if that leaves one for training.
    """
    ordered = sorted(set(keys))
    room = len(ordered) - 1
    test = min(room, max(1, round(test_share * len(ordered)))) if test_share else 0
    valid = min(room - test, max(1, round(valid_share * len(ordered)))) if valid_share else 0
    return ordered[test], ordered[test + valid]


def _key(line: bytes, seed: int) -> int:
    line = line.rstrip(b"\n")
    if line.startswith(b'{"prompt":['):  # only rows whose answer stands apart have their prompt as turns
        line = dump({"prompt": json.loads(line)["prompt"]})
    digest = hashlib.blake2b(line, digest_size=8, salt=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(digest)


def _count(path: Path) -> int:
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
