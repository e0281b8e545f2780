"""What is computed once about every row before a training, and kept: a reference's log-probabilities, a teacher's.

It is made while the model is as the training finds it, from batches in a fixed order, and written to files
under the digest of all that decides it, so that a training that goes on after a kill, and the next one, find
the same numbers. Whoever finds the files being written waits for them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import numpy as np

from training.engine.learning.lender import Lender
from training.engine.models.tokenizer import Tokenizer
from training.engine.report import Reporter
from training.engine.rows import segments
from training.engine.rows.batches import Rows, Size, batches_in_order
from training.engine.rows.examples import Array
from training.engine.rows.layouts import Batch, Layout

LIMIT = 4 << 30  # bytes of all files together
Per = Literal["example", "target"]
Compute = Callable[[Batch], dict[tuple[Per, str], mx.array]]
"""Of a batch, by what it is for and its name: (examples,) or (targets, …)."""
Notes = dict[tuple[Per, str], Array]


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a method looks at all rows before the training."""

    layout: Layout
    size: Size
    say: Reporter
    check: Callable[[], None]
    """Called between batches; may raise StopAsked."""
    folder: Path | None
    """Where notes are kept; None: nowhere."""
    identity: dict[str, str]
    """Digest of the ``model``, and of each split's rows as ``rows.<split>``."""
    lender: Lender
    """Other models that the method was given."""
    tokenizer: Tokenizer
    max_seq_length: int

    def noted(
        self, split: str, rows: Rows, what: str, key: dict[str, Any], compute: Compute, *, of: str | None = None
    ) -> Rows:
        """``rows`` with what ``compute`` makes of each batch.

        ``what`` says what it is, for people; ``key`` holds all that decides it beside model and rows. ``of``: the
        digest of another model that says it all of the tokens alone, so that every training on them finds it.
        """
        if not rows.rows:
            return rows
        asked = {**key, "what": what, "model": self.identity["model"], "rows": self.identity[f"rows.{split}"]}
        if of is not None:
            asked |= {"model": of, "rows": _tokens(rows)}
        name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:40]
        if self.folder is None:
            return _joined(rows, self._computed(rows, f"{what}, {split}", compute))
        path = self.folder / name
        with _alone(path):
            found = _read(path)
            if found is None:
                found = self._computed(rows, f"{what}, {split}", compute)
                with contextlib.suppress(OSError):  # a cache is no reason to fail
                    _write(path, found)
                    _tidy(self.folder, path)
            return _joined(rows, found)

    def _computed(self, rows: Rows, detail: str, compute: Compute) -> Notes:
        """All rows' arrays end to end, those of the first row first."""
        kept: dict[tuple[Per, str], list[Array]] = {}
        done = 0
        empty = np.zeros(0)
        for numbers in batches_in_order(rows, self.size):
            self.check()
            batch = self.layout.lay([rows.rows[i] for i in numbers])
            with segments.cut(batch.cuts):
                made = compute(batch)
            mx.eval(made)
            for key, value in made.items():
                own = kept.setdefault(key, [empty] * len(rows.rows))
                for number, part in zip(numbers, _parts(np.array(value), key[0], rows, numbers), strict=True):
                    own[number] = part
            done += len(numbers)
            self.say.phase("reference", done, len(rows.rows), detail)
        return {key: np.concatenate(parts) for key, parts in kept.items()}


def _tokens(rows: Rows) -> str:
    """Digest of the rows' tokens, and of which of them are targets."""
    digest = hashlib.sha256()
    for row in rows.rows:
        for part in row.parts:
            digest.update(np.array([len(part.ids), *part.ids, *part.trained], dtype=np.int32).tobytes())
    return digest.hexdigest()


def _parts(values: Array, per: Per, rows: Rows, numbers: list[int]) -> Iterator[Array]:
    """``values`` of a batch, row by row."""
    start = 0
    for number in numbers:
        end = start + (rows.rows[number].targets if per == "target" else 1)
        yield values[start:end]
        start = end


def _joined(rows: Rows, found: Notes) -> Rows:
    ends = np.cumsum([row.targets for row in rows.rows])
    examples = []
    for i, row in enumerate(rows.rows):
        numbers = {name: float(values[i]) for (per, name), values in found.items() if per == "example"}
        own = slice(ends[i] - row.targets, ends[i])
        arrays = {name: values[own] for (per, name), values in found.items() if per == "target"}
        examples.append(row.noted(numbers, arrays))
    return Rows(examples, rows.left_out, rows.cut)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two trainings do not compute the same notes at once. Without a place for the lock they do."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = open(path.with_suffix(".lock"), "ab")  # noqa: SIM115 - closed below, and absence is no error
    except OSError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> Notes | None:
    """The arrays as they lie on the disk, read when they are looked at; None if they are not all there."""
    try:
        names = json.loads((path / "notes.json").read_text())
        found: Notes = {(per, name): np.load(path / f"{per}.{name}.npy", mmap_mode="r") for per, name in names}
        os.utime(path)
    except (OSError, ValueError, EOFError):
        return None
    return found


def _write(path: Path, made: Notes) -> None:
    """Complete or absent."""
    beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=".part-"))
    try:
        for (per, name), values in made.items():
            np.save(beside / f"{per}.{name}.npy", values, allow_pickle=False)
        (beside / "notes.json").write_text(json.dumps(list(made)))
        shutil.rmtree(path, ignore_errors=True)  # what could not be read
        beside.replace(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _tidy(folder: Path, newest: Path) -> None:
    """Let the oldest go when it is too much."""
    total = 0
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".part-")]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        total += sum(file.stat().st_size for file in path.iterdir())
        if total > LIMIT and path != newest:
            shutil.rmtree(path, ignore_errors=True)
            path.with_suffix(".lock").unlink(missing_ok=True)
