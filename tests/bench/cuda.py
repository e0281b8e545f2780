"""``make bench-cuda``: a Llama shape of 1.24 billion parameters on a GPU, beside mlx-lm and PyTorch + PEFT.

    python -m tests.bench.cuda [--rows a,b] [--seconds 25] [--rounds 1] [--shape 1b|tiny] [--results f] [--write]

Needs no network: weights are random, tokenizer and texts are made on the spot. Every row prints when it
is done and is added to the results file, so the rows can be measured in pieces; ``--report`` prints the
table of what is there and measures nothing. Imports nothing of the platform but the engine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from dataclasses import replace
from pathlib import Path

from tests.bench import child, page, rounds, table
from tests.bench.rows import CUDA_BASE, CUDA_ROWS, Row, select
from tests.bench.run import Run, read
from tests.bench.table import Column
from tests.bench.work import Work
from training.engine.machine import blas

SECTION = "bench cuda"
MAKE = """
import sys
from pathlib import Path
from tests.bench import shapes
home, name = Path(sys.argv[1]), sys.argv[2]
shapes.make(home / f"models/{name}", name)
shapes.make(home / f"models/{name}-4bit", name, bits=4)
print(shapes.write(home / f"data/{name}", home / f"models/{name}", name))
"""


def main() -> None:
    """Parse the command line, measure, print, write."""
    asked = _parser().parse_args()
    child.end_on_sigterm()
    home = Path(os.environ.get("MLXP_HOME", "var")).resolve() / "bench"
    home.mkdir(parents=True, exist_ok=True)
    results = Path(asked.results) if asked.results else home / f"cuda-{asked.shape}.jsonl"
    rows = select(CUDA_ROWS, asked.rows)
    if not asked.report:
        measure(home, rows, asked.rounds, prepare(home, asked.shape, asked.seconds), results)
    text = report(read(results), asked.shape)
    print("\n" + text, flush=True)
    if asked.write:
        page.write(SECTION, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help=f"of {', '.join(row.name for row in CUDA_ROWS)}; all if empty")
    parser.add_argument("--seconds", type=float, default=25, help="how long each row trains after its first step")
    parser.add_argument("--rounds", type=int, default=1, help="the second starts with the kernels of the first")
    parser.add_argument("--shape", default="1b", choices=("1b", "tiny"))
    parser.add_argument("--results", default="", help="JSON lines file to add to; one in the data folder if empty")
    parser.add_argument("--report", action="store_true", help="only print the table of the results file")
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    return parser


def prepare(home: Path, name: str, seconds: float) -> dict[str, Work]:
    """Models and texts, made in a child, so that this process never holds a GPU."""
    ended = child.run(["-c", MAKE, str(home), name], home / "prepare.log", child.environment())
    if ended.code != 0:
        raise SystemExit(f"Model or texts could not be made:\n{ended.output}")
    work = Work(
        str(home / f"models/{name}"),
        str(home / f"data/{name}"),
        rows=int(ended.output.split()[-1]),
        batch_size=16,
        epochs=1000,
        train_on="all",
        seconds=seconds,
    )
    return {"plain": work, "4bit": replace(work, model=f"{work.model}-4bit")}


def measure(home: Path, rows: tuple[Row, ...], number: int, works: dict[str, Work], results: Path) -> None:
    """All rounds; prints each run when it is done."""
    os.environ["MLXP_HOME"] = str(home)
    fast = blas.environment(home / "cache")
    kernels = home / "kernels"
    (kernels / "ptx").mkdir(parents=True, exist_ok=True)
    works = {kind: replace(work, kernel_cache=str(kernels)) for kind, work in works.items()}
    environments = {"blas": {**fast, "MLX_PTX_CACHE_DIR": str(kernels / "ptx")}}
    for run in rounds.play(rows, works, number, folder=home / "runs", results=results, environments=environments):
        print(rounds.line(run), flush=True)


def columns(runs: list[Run]) -> list[Column]:
    """Speeds, memory and starts; what happens once, in a row's first round, is shown beside the rest."""
    first = {run.row: run.first_s for run in reversed(runs) if not run.skipped}
    return [
        Column("tokens/s, second half", lambda run: run.late_rate),
        Column("to mlx-lm, batch 16", lambda run: run.late_rate, " ×", to_base=True),
        Column("tokens/s, all after the first step", lambda run: run.rate_after_first),
        Column("peak, device", lambda run: run.device_gib, " GiB"),
        Column("first step, first process", lambda run: first[run.row], " s"),
        Column("start → first step, later processes", lambda run: run.start_s if run.round > 1 else None, " s"),
    ]


def settled(runs: list[Run]) -> list[Run]:
    """Without the first round of rows that have later ones, which found their kernels compiled."""
    later = {run.row for run in runs if run.round > 1 and not run.skipped}
    return [run for run in runs if run.round > 1 or run.row not in later]


def report(runs: list[Run], shape: str) -> str:
    """The section of docs/benchmarks.md."""
    shown = table.markdown(settled(runs), [(r.name, r.label) for r in CUDA_ROWS], columns(runs), CUDA_BASE)
    about = (
        f"Llama shape '{shape}' with random weights, LoRA rank 8 on all linear layers of all blocks, all tokens "
        "trained, texts of very different length (log-normal, 16 to 1024 tokens). Each row trains for the same time in "
        "a process of its own; tokens are those that train. The second half of that time shows the speed after "
        "warm-up: each new shape costs kernels and buffers. All share one folder of compiled kernels."
    )
    command = "make bench-cuda" if shape == "1b" else f"python -m tests.bench.cuda --shape {shape}"
    return "\n\n".join([page.heading(command, _gpu()), about, shown, *table.disturbed(runs, 0.2)])


def _gpu() -> str:
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""  # no NVIDIA card: the processor is named
    name, memory, driver = (part.strip() for part in done.stdout.splitlines()[0].split(","))
    return f"{name}, {memory}, driver {driver}"


if __name__ == "__main__":
    main()
