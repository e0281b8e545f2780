"""What will be trained, token by token, and how a data set fits a sequence length.

Uses the mask function of the training itself. Needs neither mlx nor mlx_lm and starts in 0.2 s.
"""

from __future__ import annotations

import heapq
import json
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.engine.config.imports import TokensConfig
from training.engine.errors import DataError
from training.engine.models.tokenizer import Tokenizer
from training.engine.models.tokenizer import load as load_tokenizer
from training.engine.report import Reporter, Silent
from training.engine.rows import masks
from training.engine.rows.masks import Encoded, TrainOn

LENGTHS = (512, 1024, 2048, 4096, 8192)  # sequence lengths whose share of cut rows is told
EDGES = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
MAX_SHOWN = 8192  # tokens of one row that are shown
_LISTED = 20  # numbers of rows that train nothing


def run(config: TokensConfig, say: Reporter | None = None) -> dict[str, Any]:
    """``python -m training.engine tokens``: ``{"rows": [...], "statistics": {...} | None, ...}``.

    Raises ModelError when the tokenizer cannot be read or has no chat template, DataError when the
    split or a row is not there.
    """
    say = say or Silent()
    path = config.data / f"{config.split}.jsonl"
    if not path.is_file():
        raise DataError("data.no_split", f"The data set has no rows for {config.split}.", "Choose another split.")
    tokenizer = load_tokenizer(config.model)
    counted = Statistics(config.max_seq_length, config.batch_size)
    if config.statistics or config.pick in ("longest", "most_masked"):
        numbers = _survey(config, tokenizer, path, counted, say)
    else:
        numbers = _pick(config, path)
    return {
        "split": config.split,
        "train_on": config.train_on,
        "max_seq_length": config.max_seq_length,
        "tokenizer": tokenizer.fingerprint,
        "rows": [_shown(number, row, config, tokenizer) for number, row in _rows(path, numbers)],
        "statistics": counted.as_dict() if config.statistics else None,
    }


def _pick(config: TokensConfig, path: Path) -> list[int]:
    """Row numbers that can be chosen without looking at the tokens."""
    if config.pick == "rows":
        return list(config.rows)
    with open(path, "rb") as file:
        total = sum(1 for _ in file)
    return random.Random(config.seed).sample(range(1, total + 1), min(config.count, total))


def _survey(config: TokensConfig, tokenizer: Tokenizer, path: Path, counted: Statistics, say: Reporter) -> list[int]:
    """Count over the whole split; the numbers of the rows that ``pick`` asks for."""
    best: list[tuple[float, int]] = []
    for number, row in _rows(path):
        try:
            parts = encoded(row, tokenizer, config.train_on)
        except DataError as error:
            counted.refused(number, error)
            continue
        counted.add(number, parts)
        tokens = sum(len(whole.ids) for whole in parts.values())
        trained = sum(whole.count for whole in parts.values())
        shares = {"longest": tokens, "most_masked": 1 - trained / max(1, tokens)}
        if config.pick in shares:
            # Of equals the first row wins: its negative number is the larger one.
            heapq.heappush(best, (shares[config.pick], -number))
            if len(best) > config.count:
                heapq.heappop(best)
        if number % 1000 == 0:
            say.phase("tokens", number, detail=f"{number:,} rows")
    if config.pick in ("longest", "most_masked"):
        return [-number for _, number in sorted(best, reverse=True)]
    return _pick(config, path)


def _rows(path: Path, numbers: list[int] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows by their numbers from 1, in the order asked for; all of them without ``numbers``."""
    if numbers is None:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield number, json.loads(line)
        return
    wanted, found = set(numbers), {}
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if number in wanted:
                found[number] = json.loads(line)
                if len(found) == len(wanted):
                    break
    for number in numbers:
        if number not in found:
            raise DataError("data.no_row", f"There is no row {number} in {path.name}.", "Choose a smaller number.")
        yield number, found[number]


def encoded(row: dict[str, Any], tokenizer: Tokenizer, train_on: TrainOn = "assistant") -> dict[str, Encoded]:
    """The sequences that a normal row is trained as, uncut, by name.

    A pair is ``chosen`` and ``rejected``, a judged answer ``completion``, a bare prompt ``prompt`` with
    nothing trained; every other row is one sequence without a name, "". Raises as ``masks.encode``.
    """
    turns = row.get("prompt")
    if not isinstance(turns, list):
        return {"": masks.encode(row, tokenizer, train_on)}
    names = [name for name in ("chosen", "rejected", "completion") if name in row]
    if names:
        return {name: masks.answer(turns, row[name], tokenizer) for name in names}
    ids = masks.prompt(turns, tokenizer)
    return {"prompt": Encoded(ids, [False] * len(ids), 0)}


def _shown(number: int, row: dict[str, Any], config: TokensConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """One row: its tokens and counts; of a pair the counts of both answers, and each of them in ``parts``."""
    about = {key: row[key] for key in ("margin", "label", "answer") if key in row}
    try:
        found = encoded(row, tokenizer, config.train_on)
    except DataError as error:
        refusal = {"code": error.code, "message": error.message, "hint": error.hint}
        none = {"tokens": [], "total": 0, "trained": 0, "cut": 0, "problem": refusal}
        return {"row": number, "name": "", **none, "parts": [], "about": about}
    parts = [_part(name, whole, config.max_seq_length, tokenizer) for name, whole in found.items()]
    if len(parts) == 1:
        return {"row": number, **parts[0], "parts": [], "about": about}
    sums = {key: sum(part[key] for part in parts) for key in ("total", "trained", "cut")}
    problem = next((part["problem"] for part in parts if part["problem"]), None)
    return {"row": number, "name": "", "tokens": [], **sums, "problem": problem, "parts": parts, "about": about}


def _part(name: str, whole: Encoded, max_seq_length: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """One sequence: tokens ``{"id", "text", "trained", "special", "cut"}`` (MAX_SHOWN at most) and the counts."""
    kept = masks.shortened(whole, max_seq_length)
    tokens = []
    for i, token in enumerate(whole.ids[:MAX_SHOWN]):
        cut = i >= len(kept.ids)
        tokens.append({
            "id": token, "text": tokenizer.token(token), "trained": whole.trained[i] and not cut,
            "special": tokenizer.is_special(token), "cut": cut,
        })  # fmt: skip
    problem = None if name == "prompt" else kept.problem  # nothing of a prompt is meant to be trained
    return {
        "name": name,
        "tokens": tokens,
        "total": len(whole.ids),
        "trained": kept.count,
        "cut": kept.cut,
        "problem": problem.as_dict() if problem else None,
    }


@dataclass(slots=True)
class Statistics:
    """Counts over a split. Keeps one number per sequence, nothing else grows. A pair is two sequences."""

    max_seq_length: int
    batch_size: int
    lengths: array[int] = field(default_factory=lambda: array("I"))
    rows: int = 0
    tokens: int = 0
    trained: int = 0
    nothing: list[int] = field(default_factory=list)
    nothing_count: int = 0
    refusals: list[dict[str, Any]] = field(default_factory=list)
    refused_count: int = 0

    def add(self, number: int, parts: dict[str, Encoded]) -> None:
        """Count one row, given uncut as :func:`encoded` gives it."""
        self.rows += 1
        empty = False
        for name, whole in parts.items():
            kept = masks.shortened(whole, self.max_seq_length)
            self.lengths.append(len(whole.ids))
            self.tokens += len(kept.ids)
            self.trained += kept.count
            empty = empty or (not kept.count and name != "prompt")
        if empty:
            self.nothing_count += 1
            if len(self.nothing) < _LISTED:
                self.nothing.append(number)

    def refused(self, number: int, error: DataError) -> None:
        """Count a row that the chat template does not take."""
        self.refused_count += 1
        if len(self.refusals) < _LISTED:
            self.refusals.append({"row": number, "code": error.code, "message": error.message, "hint": error.hint})

    def as_dict(self) -> dict[str, Any]:
        """Shares are between 0 and 1; histogram buckets are [most tokens, sequences], the last one [null, sequences].

        ``rows`` and ``sequences`` differ for pairs only; lengths and shares are of sequences.
        """
        sequences = len(self.lengths)
        return {
            "rows": self.rows + self.refused_count,
            "sequences": sequences,
            "tokens": self.tokens,
            "trained": self.trained,
            "trained_share": round(self.trained / self.tokens, 4) if self.tokens else 0,
            "longest": max(self.lengths, default=0),
            "mean": round(sum(self.lengths) / sequences, 1) if sequences else 0,
            "histogram": self._histogram(),
            "cut_share": {str(edge): self._cut(edge) for edge in sorted({*LENGTHS, self.max_seq_length})},
            "pad_waste": {
                "as_written": self._waste(self.lengths),
                "sorted": self._waste(sorted(self.lengths)),
            },
            "trains_nothing": {"count": self.nothing_count, "rows": self.nothing},
            "refused": {"count": self.refused_count, "rows": self.refusals},
        }

    def _histogram(self) -> list[list[int | None]]:
        counts = [0] * (len(EDGES) + 1)
        for length in self.lengths:
            counts[next((i for i, edge in enumerate(EDGES) if length <= edge), len(EDGES))] += 1
        return [[edge, count] for edge, count in zip((*EDGES, None), counts, strict=True)]

    def _cut(self, edge: int) -> float:
        return round(sum(length > edge for length in self.lengths) / max(1, len(self.lengths)), 4)

    def _waste(self, lengths: array[int] | list[int]) -> float:
        """Share of the positions of all micro-batches that are padding, rows taken in this order."""
        used = total = 0
        size = self.batch_size * max(1, len(lengths) // max(1, self.rows))
        for start in range(0, len(lengths), size):
            batch = [min(length, self.max_seq_length) for length in lengths[start : start + size]]
            used += sum(batch)
            total += max(batch) * len(batch)
        return round(1 - used / total, 4) if total else 0.0
