"""How much faster several ranks train than one: the same model and texts on 1 and on N devices.

    python -m tests.bench.ranks [--ranks 2] [--backend auto|nccl|ring] [--shape 1b|tiny] [--fine-tune lora|full]
                                [--tokens N] [--seconds 20] [--rounds 2] [--write]

Three rows in alternating rounds: one rank; N ranks whose micro-batch is N times as large, so that each does
what the one did; and N ranks that share the one's micro-batch. Needs no network, as ``tests.bench.cuda``.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench import child, cuda, ours, page, table
from tests.bench.run import Run, append, read
from tests.bench.table import Column
from tests.bench.work import Work
from training.engine.machine import blas

SECTION = "bench ranks"
COLUMNS = [
    Column("tokens/s of all ranks", lambda run: run.late_rate),
    Column("to one rank", lambda run: run.late_rate, " ×", to_base=True),
    Column("peak, one device", lambda run: run.device_gib, " GiB"),
    Column("start → first step", lambda run: run.start_s, " s"),
]
TOKENS = {"1b": 16384, "tiny": 512}  # a micro-batch of one rank


def main() -> None:
    """Parse the command line, measure, print, write."""
    asked = _parser().parse_args()
    child.end_on_sigterm()
    home = Path(os.environ.get("MLXP_HOME", "var")).resolve() / "bench"
    home.mkdir(parents=True, exist_ok=True)
    results = home / f"ranks-{asked.shape}-{asked.fine_tune}-{asked.ranks}.jsonl"
    tokens = asked.tokens or TOKENS[asked.shape]
    rows = settings(asked.ranks, asked.backend, tokens)
    if not asked.report:
        results.unlink(missing_ok=True)
        work = cuda.prepare(home, asked.shape, asked.seconds)["plain"]
        work = replace(work, fine_tune=asked.fine_tune, kernel_cache=str(home / "kernels" / "ranks"))
        measure(home, rows, work, asked.rounds, results)
    text = report(read(results), rows, asked)
    print("\n" + text, flush=True)
    if asked.write:
        page.write(SECTION, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--backend", default="auto", choices=("auto", "ring", "nccl", "mpi", "jaccl"))
    parser.add_argument("--shape", default="1b", choices=("1b", "tiny"))
    parser.add_argument("--fine-tune", default="lora", choices=("lora", "full"))
    parser.add_argument("--tokens", type=int, default=0, help="of one rank's micro-batch; 16384 for 1b, 512 for tiny")
    parser.add_argument("--seconds", type=float, default=20, help="how long each row trains after its first step")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="only print the table of the last measurement")
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    return parser


def settings(ranks: int, backend: str, tokens: int) -> dict[str, dict[str, Any]]:
    """The engine's settings of each row, by its label."""
    several = {"ranks": ranks, "backend": backend}
    return {
        f"1 rank, {tokens} tokens": {"batch_tokens": tokens},
        f"{ranks} ranks, {ranks * tokens} tokens": {**several, "batch_tokens": ranks * tokens},
        f"{ranks} ranks, {tokens} tokens": {**several, "batch_tokens": tokens},
    }


def measure(home: Path, rows: dict[str, dict[str, Any]], work: Work, rounds: int, results: Path) -> None:
    """All rounds; prints each run when it is done."""
    os.environ.update({"MLXP_HOME": str(home)} | blas.environment(home / "cache"))
    Path(work.kernel_cache).mkdir(parents=True, exist_ok=True)
    for number in range(1, rounds + 1):
        for i, (label, mine) in enumerate(rows.items()):
            folder = home / "runs" / f"ranks-{os.getpid()}-{number}-{i}"
            run = ours.train(label, number, work, mine, folder)
            append(results, run)
            shown = f"{run.late_rate:,.0f} tokens/s" if run.late_rate else run.skipped or "no step"
            print(f"round {number}: {label}: {shown}, first step after {run.start_s:.1f} s", flush=True)


def report(runs: list[Run], rows: dict[str, dict[str, Any]], asked: argparse.Namespace) -> str:
    """The section of docs/benchmarks.md."""
    shown = table.markdown(runs, [(label, label) for label in rows], COLUMNS, next(iter(rows)))
    about = (
        f"Llama shape '{asked.shape}', {asked.fine_tune}, texts of very different length, all tokens trained, "
        f"link: {asked.backend}. Trained tokens of all ranks per second in the second half of {asked.seconds:g} s."
    )
    command = f"python -m tests.bench.ranks --ranks {asked.ranks} --shape {asked.shape} --fine-tune {asked.fine_tune}"
    return "\n\n".join([page.heading(command, cuda._gpu()), about, shown])


if __name__ == "__main__":
    main()
