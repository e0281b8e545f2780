"""Our rollouts against ``mlx_lm.batch_generate``: same process, weights, prompts, BLAS and memory settings, in turns.

    python -m tests.bench.generation [--rounds 5] [--home FOLDER] [--only NAME …] [--write]

Prints a markdown table and one line of JSON; ``--write`` puts the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench import page
from training.engine.machine import allocator, blas

SECTION = "bench generation"
ABOUT = (
    "SmolLM2-135M in float32. Both sides in one process with the same weights, prompts and BLAS, in turns: median "
    "(least–most), ratios within a round. *By CPU time*: the same ratio by seconds of processor."
)
HOME = Path(os.environ.get("MLXP_HOME", "var")) / "bench"


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison. ``lengths``: median, shortest and longest prompt, in tokens."""

    title: str
    prompts: int
    lengths: tuple[int, int, int]
    max_tokens: int
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    ends: bool = False
    """Rows end at the end token; else all take ``max_tokens``, so that both sides have the same work."""
    logprobs: bool = False


CASES = {
    "samples": Case("3 prompts, greedy, ends", 3, (40, 20, 80), 64, ends=True),
    "greedy": Case("32 prompts, greedy, ends", 32, (60, 20, 400), 64, ends=True),
    "many": Case("72 prompts, greedy, ends", 72, (60, 20, 300), 32, ends=True),
    "policy": Case("32 prompts, drawn, log-probs", 32, (60, 20, 400), 48, temperature=1.0, logprobs=True),
    "group": Case("4 prompts × 8 samples, drawn, log-probs", 4, (150, 100, 300), 48, 8, 1.0, logprobs=True),
    "nucleus": Case("16 prompts, drawn, top-p 0.9", 16, (60, 20, 200), 32, temperature=0.8, top_p=0.9),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.generation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--home", type=Path, default=HOME, help="folder for the model, made at the first run")
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    asked = parser.parse_args()
    if wanted := allocator.environment() | blas.environment(asked.home / "blas"):
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench.generation", *sys.argv[1:]], os.environ | wanted)
    bench = Bench(asked.home)
    results = [bench.case(name, CASES[name], asked.rounds) for name in asked.only]
    print(table(results))
    if asked.write:
        page.write(SECTION, "\n\n".join([page.heading("make bench-generation"), ABOUT, table(results)]))
    print(json.dumps({"machine": machine(), "rounds": asked.rounds, "cases": results}))


class Bench:
    """The model, opened once and used by both sides."""

    def __init__(self, home: Path) -> None:
        # MLX only now: it must be loaded after the environment names the BLAS.
        import mlx_lm.tokenizer_utils

        from tests.bench import chats
        from training.engine.generation.rollout import Rollout
        from training.engine.machine import device
        from training.engine.models import loading

        machine = device.set_up(0)
        folder = chats.smollm(home)
        self.model = loading.load(folder, "auto", machine).model
        self.words = mlx_lm.tokenizer_utils.load(folder)
        self.eos = frozenset(self.words.eos_token_ids)
        self.ending, self.endless = Rollout(self.model, self.eos), Rollout(self.model, ())

    def case(self, name: str, case: Case, rounds: int) -> dict[str, Any]:
        """Tokens per second of both sides, in turns, after a short warm-up of each."""
        prompts = self._prompts(case)
        sides: dict[str, Callable[[], tuple[int, Any]]] = {
            "ours": lambda: self._ours(case, prompts),
            "mlx_lm": lambda: self._theirs(case, prompts),
        }
        rates: dict[str, list[float]] = {side: [] for side in sides}
        # CPU time too: with OPENBLAS_NUM_THREADS=1, when no thread waits in a spin, it stands even on a busy machine.
        costs: dict[str, list[float]] = {side: [] for side in sides}
        texts: dict[str, Any] = {}
        for turn in range(rounds):
            for side in sorted(sides, reverse=bool(turn % 2)):
                began, work = time.perf_counter(), time.process_time()
                tokens, texts[side] = sides[side]()
                rates[side].append(tokens / (time.perf_counter() - began))
                costs[side].append((time.process_time() - work) / tokens)
                said = f"{tokens} tokens, {rates[side][-1]:.1f}/s, {costs[side][-1] * 1e3:.1f} CPU ms each"
                print(f"{name} {turn + 1} {side}: {said}", file=sys.stderr, flush=True)
        same = [a == b for a, b in zip(texts["ours"], texts["mlx_lm"], strict=True)]
        return {
            "case": name,
            "title": case.title,
            "prompt_tokens": sum(map(len, prompts)),
            "rates": rates,
            "cpu_seconds_per_token": costs,
            "ratio": ratio(rates["ours"], rates["mlx_lm"]),
            "ratio_by_cpu_time": ratio(costs["mlx_lm"], costs["ours"]),
            "same_rows": sum(same) if case.temperature == 0 else None,
            "rows": len(same),
        }

    def _prompts(self, case: Case) -> list[list[int]]:
        from tests.bench import chats
        from training.engine.data import python_docs

        docs = python_docs.collect()
        random.Random(1).shuffle(docs)
        text, found = iter(docs), []
        for length in chats.lengths(case.prompts, 1, *case.lengths):
            ids: list[int] = []
            while len(ids) < length:
                doc = next(text)
                ids += self.words.encode(f"`{doc.module}.{doc.name}` is a {doc.kind}: {doc.summary}\n")
            start, end = ("<|im_start|>user\nExplain this.\n", "<|im_end|>\n<|im_start|>assistant\n")
            found.append([*self.words.encode(start), *ids[:length], *self.words.encode(end)])
        return found

    def _ours(self, case: Case, prompts: list[list[int]]) -> tuple[int, list[list[int]]]:
        from training.engine.generation.sampling import Sampling
        from training.engine.machine import cpu_math

        cpu_math.install(self.model)
        how = Sampling(case.temperature, top_p=case.top_p)
        rollout = self.ending if case.ends else self.endless
        done = rollout.run(prompts, case.max_tokens, how, samples=case.samples)
        ids = [row.ids[:-1] if row.finish == "eos" else row.ids for row in done]
        return sum(map(len, ids)), ids

    def _stock_activations(self) -> None:
        """mlx-lm's side computes as it comes: the engine's own activation is put in for our side only."""
        module = sys.modules[type(self.model).__module__]
        module.swiglu = getattr(module.swiglu, "_mlxp_stock", module.swiglu)

    def _theirs(self, case: Case, prompts: list[list[int]]) -> tuple[int, list[list[int]]]:
        from mlx_lm import batch_generate
        from mlx_lm.sample_utils import make_sampler

        self._stock_activations()
        self.words._eos_token_ids = set(self.eos) if case.ends else set()
        made = batch_generate(
            self.model,
            self.words,
            [prompt for prompt in prompts for _ in range(case.samples)],
            max_tokens=case.max_tokens,
            return_token_ids=True,
            return_logprobs=case.logprobs,
            sampler=make_sampler(case.temperature, top_p=case.top_p if case.top_p < 1 else 0.0),
        )
        assert made.token_ids is not None
        return sum(map(len, made.token_ids)), made.token_ids


def ratio(above: list[float], below: list[float]) -> float:
    """Median of the rounds' ratios: what slows the machine down slows both sides of a round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def table(results: list[dict[str, Any]]) -> str:
    """Medians with the range seen, and the median of the rounds' ratios."""
    lines = ["| | ours, tokens/s | mlx_lm.batch_generate | ratio | by CPU time | same rows |", "|---" * 6 + "|"]
    for result in results:
        cells = [
            f"{statistics.median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f})"
            for rates in (result["rates"]["ours"], result["rates"]["mlx_lm"])
        ]
        same = "–" if result["same_rows"] is None else f"{result['same_rows']} of {result['rows']}"
        lines.append(
            f"| {result['title']} | {cells[0]} | {cells[1]} | {result['ratio']:.2f} | "
            f"{result['ratio_by_cpu_time']:.2f} | {same} |"
        )
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    from training.engine.machine import device

    versions = {name: version(name) for name in ("mlx", "mlx-lm")}
    return {**device.detect().as_dict(), **versions, "python": platform.python_version()}


if __name__ == "__main__":
    main()
