"""Starts a peer's driver and reads back what it has measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.bench import child
from tests.bench.run import Run, Step
from tests.bench.work import Work


def train(row: str, number: int, work: Work, *, driver: str, folder: Path, environment: Mapping[str, str]) -> Run:
    """One run of ``tests.bench.peers.<driver>`` in ``folder``; a driver that fails makes a skipped run that says so."""
    folder.mkdir(parents=True)
    asked, out = work.write(folder / "work.json"), folder / "run.json"
    command = ["-m", f"tests.bench.peers.{driver}", str(asked), str(out)]
    ended = child.run(command, folder / "log", child.environment(**environment))
    if ended.code != 0 or not out.exists():
        lines = [line for line in ended.output.splitlines() if line.strip()]
        return Run(row, number, skipped=f"its process ended with {ended.code}: {lines[-1][:200] if lines else ''}")
    found = json.loads(out.read_text())
    run = Run(**{**found, "row": row, "round": number, "steps": [Step(**step) for step in found["steps"]]})
    return replace(run, start_s=run.start_s - ended.began, process_gib=ended.peak_gib, others=ended.others)
