"""``make bench-methods``: the other methods on this CPU, beside mlx-lm-lora where it has them.

    python -m tests.bench.methods [--quick] [--write] [--rows dpo,lora-dpo] [--rounds 2]

As ``tests.bench.cpu``: same model, pairs, adapter, batch size and BLAS; one process after the other, in rounds.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

from tests.bench import child, cpu, page, table
from tests.bench.rows import METHOD_ROWS, select
from tests.bench.run import Run, read
from tests.bench.table import Column
from tests.bench.work import Work

SECTION = "bench methods"
MAKE = """
import sys
from pathlib import Path
from tests.bench import chats
model, home, pairs, longest, prompts = sys.argv[1:]
chats.write_pairs(Path(home, f"pairs-{pairs}-{longest}"), Path(model), int(pairs), int(longest))
chats.write_prompts(Path(home, f"prompts-{prompts}"), int(prompts))
"""
LONGEST, PROMPTS = 512, 16
PAIRS = (("lora-dpo", "dpo"), ("lora-orpo", "orpo"))
NAMES = [(row.name, row.label) for row in METHOD_ROWS]


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four pairs and chats, one epoch, one round")
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    parser.add_argument("--rows", default="", help="names of rows, with commas; all of them if empty")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--results", default="", help="JSON lines file to add to; a new one if empty")
    asked = parser.parse_args()
    child.end_on_sigterm()
    home = Path(os.environ.get("MLXP_HOME", "var")).resolve() / "bench"
    home.mkdir(parents=True, exist_ok=True)
    rows = select(METHOD_ROWS, asked.rows)
    results = Path(asked.results) if asked.results else home / f"methods-{int(time.time())}.jsonl"
    works = prepare(home, quick=asked.quick)
    cpu.measure(home, rows, asked.rounds or (1 if asked.quick else 2), works, results)
    text = report(read(results), works["pairs"], "make bench-methods" + (" QUICK=1" if asked.quick else ""))
    print("\n" + text, flush=True)
    if asked.write:
        page.write(SECTION, text)


def prepare(home: Path, *, quick: bool) -> dict[str, Work]:
    """Chats, pairs and prompts, and the model."""
    count, longest = (4, 128) if quick else (16, LONGEST)
    chats = replace(cpu.prepare(home, count, longest=longest), epochs=1 if quick else 2)
    command = ["-c", MAKE, chats.model, str(home / "data"), str(count), str(longest), str(PROMPTS)]
    ended = child.run(command, home / "prepare.log", child.environment(MLXP_HOME=str(home)))
    if ended.code != 0:
        raise SystemExit(f"Pairs or prompts could not be made:\n{ended.output}")
    pairs = replace(chats, data=str(home / "data" / f"pairs-{count}-{longest}"))
    prompts = replace(chats, data=str(home / "data" / f"prompts-{PROMPTS}"), rows=PROMPTS)
    return {"plain": chats, "pairs": pairs, "prompts": prompts}


def _columns(last: float) -> list[Column]:
    return [
        Column("a step", lambda run: run.step_s(last), " s"),
        Column("tokens/s", lambda run: run.rate(last)),
        Column("to mlx-lm-lora", lambda run: run.rate(last), " ×", to_base=True),
        Column("reference, before", lambda run: run.before_s, " s"),
        Column("such an epoch with it, to mlx-lm-lora", lambda run: run.whole_rate(last), " ×", to_base=True),
        Column("peak, MLX", lambda run: run.device_gib, " GiB"),
        Column("to mlx-lm-lora", lambda run: run.device_gib, " ×", to_base=True),
        Column("peak, process", lambda run: run.process_gib, " GiB"),
        Column("loss, last epoch", lambda run: run.last_loss),
    ]


def report(runs: list[Run], pairs: Work, command: str) -> str:
    """The section of docs/benchmarks.md."""
    last = pairs.epochs - 1
    parts = [page.heading(command), _about(pairs)]
    for base, ours in PAIRS:
        if any(run.row in (base, ours) for run in runs):
            parts.append(table.markdown(runs, [one for one in NAMES if one[0] in (base, ours)], _columns(last), base))
    return "\n\n".join([*parts, *_distilled(runs, last), *_shares(runs), *table.disturbed(runs)])


def _about(pairs: Work) -> str:
    epoch = "the second epoch" if pairs.epochs > 1 else "the only epoch, with all that is new in a process"
    return (
        f"SmolLM2-135M in float32, LoRA rank {pairs.rank} on all linear layers of the last {pairs.num_layers} blocks, "
        f"{pairs.rows} pairs of the same tokens for all, batches of {pairs.batch_size}. Steps and tokens/s of {epoch}. "
        "mlx-lm-lora holds the reference as a second model and computes it in every step; ours computes it once, with "
        "the adapters off, and keeps its log-probs: that is the reference, before."
    )


def _distilled(runs: list[Run], last: float) -> list[str]:
    found = table.ratio(runs, "distillation", "sft", lambda run: run.step_s(last))
    before = table.spread(runs, "distillation", lambda run: run.before_s)
    if found is None or before is None:
        return []
    return [
        f"A step of distillation with the cached teacher takes {found.text(' ×')} one of SFT on the same rows; before "
        f"the first one the teacher reads them once, {before.text(' s')}."
    ]


def _shares(runs: list[Run]) -> list[str]:
    lines = ["| | generation | scoring | learning | an update |", "|---|---|---|---|---|"]
    for name, label in NAMES:
        names = ("generation", "scoring", "learning")
        spreads = [table.spread(runs, name, lambda run, of=of: run.shares.get(of)) for of in names]  # type: ignore[misc]
        step = table.spread(runs, name, lambda run: run.step_s())
        if step is not None and None not in spreads:
            cells = " | ".join(f"{100 * one.median:.0f} %" for one in spreads if one)
            lines.append(f"| {label} | {cells} | {step.text(' s')} |")
    return ["Where the time of a rollout goes:\n\n" + "\n".join(lines)] if len(lines) > 2 else []


if __name__ == "__main__":
    main()
