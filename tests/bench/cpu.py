"""``make bench``: our engine against mlx-lm and mlx-lm-lora on this CPU, then the platform's own cost.

    python -m tests.bench.cpu [--quick] [--write] [--rows a,b] [--rounds 2]

Same model (SmolLM2-135M in float32), rows, adapter, batch size, epochs and BLAS for all; one process
after the other, in rounds. The model and the peer's package are kept in ``bench/`` of the data folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from tests.bench import child, package, page, rounds, table
from tests.bench.rows import CPU_BASE, CPU_ROWS, Row, select
from tests.bench.run import Run, append, read
from tests.bench.table import Column
from tests.bench.work import Work
from training.engine.machine import allocator, blas

SECTION = "bench cpu"
MAKE = """
import sys
from pathlib import Path
from tests.bench import chats
home, data, count, longest = sys.argv[1:]
chats.write(Path(data), chats.smollm(Path(home)), int(count), int(longest))
"""
COLUMNS = [
    Column("tokens/s, second epoch", lambda run: run.rate(1)),
    Column("to mlx-lm, second epoch", lambda run: run.rate(1), " ×", to_base=True),
    Column("to mlx-lm, first epoch", lambda run: run.rate(0, 1), " ×", to_base=True),
    Column("peak, process", lambda run: run.process_gib, " GiB"),
    Column("peak, MLX", lambda run: run.device_gib, " GiB"),
    Column("MLX peak to mlx-lm", lambda run: run.device_gib, " ×", to_base=True),
    Column("first step", lambda run: run.first_s, " s"),
    Column("start → first step", lambda run: run.start_s, " s"),
    Column("loss, last epoch", lambda run: run.last_loss),
]


def main() -> None:
    """Parse the command line, measure, print, write."""
    asked = _parser().parse_args()
    child.end_on_sigterm()
    home = Path(os.environ.get("MLXP_HOME", "var")).resolve() / "bench"
    home.mkdir(parents=True, exist_ok=True)
    rows = select(CPU_ROWS, asked.rows or ("mlx-lm,ours,ours-cached" if asked.quick else ""))
    number = asked.rounds or (1 if asked.quick else 2)
    results = Path(asked.results) if asked.results else home / f"cpu-{int(time.time())}.jsonl"
    works = {"plain": prepare(home, asked.count or (8 if asked.quick else 16))}
    if any(row.on == "short" for row in rows):
        works["short"] = replace(prepare(home, 4, longest=128), epochs=3)
    measure(home, rows, number, works, results)
    text = report(read(results), rows, works["plain"], "make bench" + (" QUICK=1" if asked.quick else ""))
    print("\n" + text, flush=True)
    if asked.write:
        page.write(SECTION, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows, one round, under four minutes")
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    parser.add_argument("--rows", default="", help="names of rows, with commas; all of them if empty")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--count", type=int, default=0, help="chats in the data set, a multiple of 4")
    parser.add_argument(
        "--results", default="", help="JSON lines file to add to; a new one in the data folder if empty"
    )
    return parser


def prepare(home: Path, count: int, longest: int = 1024) -> Work:
    """Model and rows. In a child, because whoever imports MLX here would weigh on every memory figure."""
    model, data = home / "models" / "smollm", home / "data" / f"chats-{count}-{longest}"
    command = ["-c", MAKE, str(home), str(data), str(count), str(longest)]
    ended = child.run(command, home / "prepare.log", child.environment(MLXP_HOME=str(home)))
    if ended.code != 0:
        raise SystemExit(f"Model or rows could not be made:\n{ended.output}")
    return Work(str(model), str(data), count, batch_size=4, epochs=2, num_layers=16)


def measure(home: Path, rows: tuple[Row, ...], number: int, works: dict[str, Work], results: Path) -> None:
    """All rounds; prints each run when it is done."""
    os.environ["MLXP_HOME"] = str(home)  # the engine keeps its copy of the BLAS there, too
    fast = blas.environment(home / "cache")
    packaged = [row for row in rows if row.trainer in ("mlx_lm_lora_package", "mlx_lm_lora_pairs")]
    if packaged and (why := package.install(home / "peers")):
        for row in packaged:
            append(results, Run(row.name, skipped=why))
        rows = tuple(row for row in rows if row not in packaged)
    peers = {"PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(home / "peers")]))}
    folder = home / "runs"
    shutil.rmtree(folder, ignore_errors=True)
    everything = allocator.environment() | fast | peers
    environments = {"nothing": peers, "blas": fast | peers, "everything": everything}
    for run in rounds.play(rows, works, number, folder=folder, results=results, environments=environments):
        print(rounds.line(run), flush=True)


def report(runs: list[Run], rows: tuple[Row, ...], work: Work, command: str) -> str:
    """The section of docs/benchmarks.md."""
    shown = table.markdown(runs, [(row.name, row.label) for row in rows], COLUMNS, CPU_BASE)
    return "\n\n".join([page.heading(command), _about(work), shown, *_stock(runs), *table.disturbed(runs)])


def _about(work: Work) -> str:
    return (
        f"SmolLM2-135M in float32, LoRA rank {work.rank} on all linear layers of the last {work.num_layers} blocks, "
        f"{work.rows} chats (median about 100 tokens, longest 1024), batches of {work.batch_size}, answers trained. "
        "One process after the other in alternating rounds: median (least–most), ratios within a round. The first "
        "epoch holds what is new in a process: kernels compiled, memory touched for the first time, caches filled."
    )


def _stock(runs: list[Run]) -> list[str]:
    """mlx-lm without a fast BLAS, compared with itself on the same few short rows, which it can train in minutes."""
    slow, fast = (next((r for r in runs if r.row == f"mlx-lm-{w}" and not r.skipped), None) for w in ("stock", "short"))
    if slow is None or fast is None or not slow.rate_after_first or not fast.rate_after_first:
        return []
    factor = fast.rate_after_first / slow.rate_after_first
    said = f"The BLAS alone: on 4 short rows mlx-lm is {factor:.1f} × as fast with it as pip installs it."
    ours = table.ratio(runs, "ours", CPU_BASE, lambda run: run.rate(1))
    return [said + (f" With it, ours is about {ours.median * factor:.0f} × mlx-lm as pip installs it." if ours else "")]


if __name__ == "__main__":
    main()
