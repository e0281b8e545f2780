"""Runs the rows of a comparison one after the other, round after round: A B C A B C."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench import ours
from tests.bench.peers import start
from tests.bench.rows import Row
from tests.bench.run import Run, append, read
from tests.bench.work import Work


def play(
    rows: tuple[Row, ...],
    works: Mapping[str, Work],
    rounds: int,
    *,
    folder: Path,
    results: Path,
    environments: Mapping[str, Mapping[str, str]],
) -> Iterator[Run]:
    """Every run as soon as it is done; each is also appended to ``results``.

    ``works`` holds what a row's ``on`` names: another model, other texts. ``environments`` holds what a
    peer's process is given, by the word in ``Row.given``. A row that was refused
    is not tried again. Rounds already in ``results`` count: a later call goes on from there.
    """
    ran = [run.row for run in read(results) if not run.skipped]
    done = {row.name: ran.count(row.name) for row in rows}
    refused: set[str] = set()
    totals: dict[str, int] = {}
    for _ in range(rounds):
        for row in rows:
            if row.name in refused or 0 < row.rounds <= done[row.name]:
                continue
            done[row.name] += 1
            run = one(row, done[row.name], works[row.on], folder, environments[row.given])
            if run.skipped:
                refused.add(row.name)
            elif works[row.on].comparable and row.on != "prompts":
                assert totals.setdefault(row.on, run.tokens) == run.tokens, (
                    f"{row.name} trained other tokens: {run.tokens}"
                )
            append(results, run)
            yield run


def one(row: Row, number: int, work: Work, folder: Path, environment: Mapping[str, str]) -> Run:
    """One row, once."""
    work = replace(work, **row.work)
    place = folder / f"{row.name}-{number}"
    shutil.rmtree(place, ignore_errors=True)
    if row.trainer == "ours":
        return ours.train(row.name, number, work, row.settings, place)
    return start.train(row.name, number, work, driver=row.trainer, folder=place, environment=environment)


def line(run: Run) -> str:
    """What is printed when a run is done."""
    if run.skipped:
        return f"{run.row}: not run: {run.skipped}"
    figures: dict[str, Any] = {
        "round": run.round,
        "tokens/s": f"{run.rate_after_first or 0:.1f}",
        "second half": f"{run.late_rate or 0:.1f}",
        "first step": f"{run.first_s:.1f} s",
        "start to first step": f"{run.start_s:.1f} s",
        "process": f"{run.process_gib:.2f} GiB",
        "device": f"{run.device_gib:.2f} GiB",
        "other programs": f"{100 * run.others:.0f} %",
        "trainable": run.trainable,
        "steps": len(run.steps),
        "loss": f"{run.last_loss or 0:.4f}",
        "on": run.backend,
    }
    return f"{run.row}: " + ", ".join(f"{name} {value}" for name, value in figures.items())
