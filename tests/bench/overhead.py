"""What the platform costs: the same training by the engine alone and through ``manage.py serve``, in turns.

    python -m tests.bench.overhead [--rounds 3] [--write]

Both run the same rows in the same order, so step is compared with step. The clock of "start → first step"
begins when the engine's process is started, and when the job's row is written. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.bench import child, cpu, ours, page
from tests.bench.run import Run
from tests.bench.table import Spread, number
from tests.bench.work import Work
from tests.chaos.house import House
from training.engine.run import journal

SECTION = "bench overhead"
ADD = """
import json, sys, time, django
django.setup()
from mlxplatform.core.access import Role, make_user
from registry.models import ModelVersion, RegisteredModel
from training import services
from training.models import Dataset, DatasetVersion
from django.contrib.auth import get_user_model
user = get_user_model().objects.filter(username="bench").first() or make_user("bench", Role.EDITOR)
model, _ = RegisteredModel.objects.get_or_create(name="smollm", defaults={"owner": user})
version, _ = ModelVersion.objects.get_or_create(model=model, n=1, kind="base", path="models/smollm", model_type="llama")
data, _ = Dataset.objects.get_or_create(name="chats", defaults={"owner": user})
rows, _ = DatasetVersion.objects.get_or_create(dataset=data, n=1, sha256="chats", data_format="chat", rows_train=24)
began = time.time()
job = services.create_training(user, model_version_id=version.pk, dataset_version_id=rows.pk,
                               settings=json.loads(sys.argv[1]))
print(job.pk, began)
"""


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    asked = parser.parse_args()
    child.end_on_sigterm()
    home = Path(os.environ.get("MLXP_HOME", "var")).resolve() / "bench"
    home.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join([page.heading("make bench"), *measure(home, asked.rounds)])
    print("\n" + text, flush=True)
    if asked.write:
        page.write(SECTION, text)


def measure(home: Path, rounds: int) -> list[str]:
    """The paragraphs of the section: what was done, and the table."""
    # Short rows, so that there are many steps, and what a step costs beside the computation shows most.
    work = cpu.prepare(home, 24, longest=128)
    os.environ["MLXP_HOME"] = str(home)
    with tempfile.TemporaryDirectory(prefix="mlxp-bench-") as folder:
        house = House(Path(folder))
        try:
            _furnish(house, home, work)
            house.serve()
            bare, through = _rounds(house, home, work, rounds)
            memory = {name: _peak_mib(house.pid(name)) for name in ("web", "worker", "launcher")}
            house.end()
        finally:
            house.close()
    about = (
        f"SmolLM2-135M in float32, {work.rows} chats of at most 128 tokens, {work.epochs} epochs of "
        f"{work.rows // work.batch_size} steps, {rounds} rounds in turns, after one of each that only warms caches. "
        "No page is open."
    )
    return [about, table(bare, through, memory)]


def table(bare: list[Run], through: list[Run], memory: dict[str, float]) -> str:
    """Step against step, start against start, and the platform's processes in MiB."""
    pairs = [
        after.seconds / before.seconds
        for one, other in zip(bare, through, strict=True)
        for before, after in zip(one.steps[1:], other.steps[1:], strict=True)
    ]
    ratios = [_mean(other) / _mean(one) for one, other in zip(bare, through, strict=True)]
    alone, served = Spread.of([run.start_s for run in bare]), Spread.of([run.start_s for run in through])
    steps = Spread.of([_mean(run) for run in bare])
    assert alone and served and steps
    lines = [
        "| | |",
        "|---|---|",
        f"| a step of the bare engine | {steps.text(' s')} |",
        f"| a step through the platform, to the same step bare (median of {len(pairs)}) | "
        f"{100 * (statistics.median(pairs) - 1):+.1f} % |",
        f"| the same, whole runs (least–most of {len(ratios)}) | "
        f"{100 * (min(ratios) - 1):+.1f} – {100 * (max(ratios) - 1):+.1f} % |",
        f"| start → first step, bare engine | {alone.text(' s')} |",
        f"| start → first step, through the platform | {served.text(' s')} |",
        *(f"| peak memory, {name} process | {number(mib)} MiB |" for name, mib in memory.items()),
    ]
    return "\n".join(lines)


def _mean(run: Run) -> float:
    steps = run.steps[1:]
    return sum(step.seconds for step in steps) / len(steps)


def _furnish(house: House, home: Path, work: Work) -> None:
    (house.home / "models" / "smollm").symlink_to(work.model)
    (house.home / "datasets" / "chats").symlink_to(work.data)
    cache = house.home / "cache"
    if not cache.exists():
        (home / "cache").mkdir(exist_ok=True)
        cache.symlink_to(home / "cache")  # the copy of the BLAS is made once, not in every fresh data folder


def _rounds(house: House, home: Path, work: Work, rounds: int) -> tuple[list[Run], list[Run]]:
    bare, through = [], []
    for n in range(rounds + 1):
        place = home / "runs" / f"bare-{n}"
        shutil.rmtree(place, ignore_errors=True)
        one, other = ours.train("bare", n, work, {}, place), _serve(house, work, n)
        for run in (one, other):
            if run.skipped:
                raise SystemExit(f"{run.row}: {run.skipped}")
        if n > 0:
            bare.append(one)
            through.append(other)
            print(f"round {n}: bare {_mean(one):.3f} s a step, start {one.start_s:.2f} s; "
                  f"platform {_mean(other):.3f} s a step, start {other.start_s:.2f} s", flush=True)  # fmt: skip
    return bare, through


def _serve(house: House, work: Work, number: int) -> Run:
    asked: dict[str, Any] = ours.config(work, {})
    settings = {k: v for k, v in asked.items() if k not in ("schema", "model", "data", "kernel_cache")}
    key, began = house.python("-c", ADD, json.dumps(settings)).split()
    # A look now and then: whoever asks the database fifty times a second is what he measures.
    while (job := house.job(key))["state"] not in {"succeeded", "failed", "stopped"}:
        time.sleep(1)
    if job["state"] != "succeeded":
        return Run("platform", number, skipped=f"the job {job['state']}: {job['message']}")
    run_dir = house.home / "runs" / key
    events, _ = journal.read(run_dir / "attempts" / "1" / "events.jsonl", limit=1 << 30)
    return ours.read("platform", number, events, child.Ended(0, float(began), 0.0, 0.0, ""), run_dir)


def _peak_mib(pid: int) -> float:
    """High-water mark of a process where the system tells, else what it holds now."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return psutil.Process(pid).memory_info().rss / (1 << 20)
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
