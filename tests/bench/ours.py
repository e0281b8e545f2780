"""Our engine as its own process; every figure is read from the journal it writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench import child
from tests.bench.run import Run, Step
from tests.bench.work import Work
from training.engine.errors import Exit
from training.engine.folders import safetensors_header
from training.engine.run import journal
from training.engine.run.journal import Event

#: Nothing but training: no evaluation, no samples, one checkpoint at the end.
QUIET = {"sample_tokens": 0, "val_batches": 0, "steps_per_eval": 10**7, "save_every": 10**7, "steps_per_report": 1}


def config(work: Work, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's config.json for ``work``; ``settings`` are a variant's own."""
    adapter: dict[str, Any] = {"name": work.fine_tune, "num_layers": work.num_layers}
    if work.fine_tune == "lora":
        adapter |= {"rank": work.rank, "scale": work.scale}
    made = {
        "schema": 1,
        "model": work.model,
        "data": work.data,
        "adapter": adapter,
        "method": {"name": work.method},
        "lr_schedule": {"name": "constant"},
        "learning_rate": work.learning_rate,
        "batch_size": work.batch_size,
        "max_seq_length": work.max_seq_length,
        "seed": work.seed,
        "kernel_cache": work.kernel_cache or None,
        **({"iters": work.iters} if work.iters else {"epochs": work.epochs}),
        **QUIET,
    }
    made |= settings
    if made["method"]["name"] in ("sft", "distillation"):
        made["method"] = {"train_on": work.train_on, **made["method"]}
    if made["method"]["name"] == "distillation":
        made["others"] = {"teacher": {"model": work.model}}  # of the student's own size: a step costs what it costs
    return made


def train(row: str, number: int, work: Work, settings: Mapping[str, Any], folder: Path) -> Run:
    """One run in ``folder``. A setting that the engine refuses makes a skipped run with the engine's words."""
    folder.mkdir(parents=True)
    (folder / "asked.json").write_text(json.dumps(config(work, settings)))
    path = folder / "run" / "attempts" / "1" / "events.jsonl"
    command = ["-m", "training.engine", "train", "--config", str(folder / "asked.json"), "--run-dir"]

    def enough() -> bool:
        steps = [event.t for event in _events(path) if event.event == "metrics"]
        return bool(steps) and steps[-1] - steps[0] > work.seconds

    ended = child.run(
        [*command, str(folder / "run")],
        folder / "log",
        child.environment(),
        enough if work.seconds else None,
    )
    events = _events(path)
    if ended.code not in (Exit.FINISHED, Exit.STOPPED):
        return Run(row, number, skipped=_why(events, ended))
    run = read(row, number, events, ended, folder / "run")
    shutil.rmtree(folder / "run" / "checkpoints", ignore_errors=True)  # of a large model that is many gigabytes
    return run


def _events(path: Path) -> list[Event]:
    return journal.read(path, limit=1 << 30)[0]


def read(row: str, number: int, events: list[Event], ended: child.Ended, run_dir: Path) -> Run:
    """A run out of its journal. Times are those of the ``metrics`` events, so nothing between two steps is left out."""
    metrics = [event for event in events if event.event == "metrics"]
    if not metrics:
        return Run(row, number, skipped="it ended before its first step")
    phases = [event for event in events if event.event == "phase"]
    begins = next(event.t for event in phases if event.fields["name"] == "train")
    read_at = max(event.t for event in phases if event.fields["name"] == "tokenize")
    steps = []
    for before, event in pairwise([None, *metrics]):
        values = event.fields["values"]
        known = before.fields["values"]["trained_tokens"] if before else 0
        seconds = event.t - (before.t if before else begins)
        steps.append(Step(seconds, values["trained_tokens"] - known, values["epoch"], values["train_loss"]))
    machine = next(event.fields for event in events if event.event == "machine")
    return Run(
        row,
        number,
        steps,
        start_s=metrics[0].t - ended.began,
        first_s=steps[0].seconds,
        before_s=begins - read_at,
        shares=_shares([event.fields["values"] for event in metrics]),
        process_gib=ended.peak_gib,
        others=ended.others,
        device_gib=metrics[-1].fields["values"]["peak_memory_gb"],
        trainable=_trainable(run_dir),
        backend=f"{machine['backend']}, {machine['blas']}".removesuffix(", "),
    )


def _shares(values: list[dict[str, float]]) -> dict[str, float]:
    """Means over the rollouts; nothing for a method that has none."""
    names = ("generation_share", "scoring_share", "learning_share")
    told = [one for one in values if names[0] in one]
    return {name.removesuffix("_share"): sum(one[name] for one in told) / len(told) for name in names} if told else {}


def _trainable(run_dir: Path) -> int:
    files = sorted(run_dir.glob("checkpoints/*/adapters.safetensors"))
    total = 0
    for entry in safetensors_header.read(files[-1]).values() if files else ():
        size = 1
        for length in entry.shape:
            size *= length
        total += size
    return total


def _why(events: list[Event], ended: child.Ended) -> str:
    words = next((event.fields for event in reversed(events) if event.event == "failed"), None)
    if words is None:
        return (
            f"the engine ended with {ended.code}: {ended.output.strip().splitlines()[-1][:200] if ended.output else ''}"
        )
    first = words["problems"][0]["message"] if words.get("problems") else words["message"]
    return f"the engine refuses: {first}"
