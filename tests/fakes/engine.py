"""An engine that misbehaves on purpose: ``python engine.py MODE <the engine's arguments>``.

It speaks the journal and holds the run lock as the real one does, and then does something that the real one
must never do. Each road is also driven with the real engine; nothing here stands in for it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from training.engine.run.journal import Journal
from training.engine.run.rundir import AttemptDir, RunDir, hold


def steps(journal: Journal, run: RunDir, first: int, last: int, pause: float = 0.0) -> None:
    """Journal lines of steps first..last, a checkpoint folder every 10."""
    for step in range(first, last + 1):
        journal.write("metrics", step=step, of=40, values={"train_loss": 5.0 / step, "learning_rate": 1e-4})
        if step % 10 == 0:
            checkpoint(journal, run, step)
        time.sleep(pause)


def checkpoint(journal: Journal, run: RunDir, step: int) -> None:
    folder = run.checkpoints / f"{step:07d}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("adapters.safetensors", "adapter_config.json", "manifest.json"):
        (folder / name).write_text(f"{name} {step}")
    journal.write("checkpoint", step=step, path=f"checkpoints/{folder.name}", bytes=100, sha256="0" * 64)


def newest(run: RunDir) -> int:
    return max((int(p.name) for p in run.checkpoints.glob("[0-9]*")), default=0)


def finish(journal: Journal, run: RunDir, step: int = 40) -> None:
    checkpoint(journal, run, step)
    journal.write("finished", result={"checkpoint": f"checkpoints/{step:07d}", "step": step, "val_loss": 1.5})


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode")
    parser.add_argument("command")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--attempt", type=int)
    args = parser.parse_args()
    run = RunDir(args.run_dir)
    attempt = run.attempt(args.attempt)
    if args.mode == "crash_before_started":
        print("Segmentation fault, says the fake engine.", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if args.mode == "wrong_config":
        print("learning_rate: too high.\nLower it.", file=sys.stderr, flush=True)
        return 2
    assert hold(run.lock) is not None, "the run folder is locked"
    journal = Journal(attempt.journal)
    me = psutil.Process()
    journal.write("started", pid=me.pid, process_start=me.create_time(), attempt=attempt.n, fence=attempt.fence())
    return MODES[args.mode](journal, run, attempt)


def good(journal: Journal, run: RunDir, attempt: AttemptDir) -> int:
    """Forty steps without fault, stopping when asked."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    step = newest(run)
    while step < 40 and not asked:
        step += 1
        steps(journal, run, step, step, 0.01)
    if asked:
        checkpoint(journal, run, step)
        journal.write("stopped", why="signal SIGTERM", exit_code=10)
        return 10
    finish(journal, run)
    return 0


def slow(journal: Journal, run: RunDir, attempt: AttemptDir) -> int:
    """As good, but it waits in the middle until somebody makes a file called go."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    steps(journal, run, newest(run) + 1, 15)
    while not asked and not (run.root / "go").exists():
        time.sleep(0.01)
    if asked:
        checkpoint(journal, run, 15)
        journal.write("stopped", why="signal SIGTERM", exit_code=10)
        return 10
    steps(journal, run, 16, 40)
    finish(journal, run)
    return 0


def deaf(journal: Journal, run: RunDir, attempt: AttemptDir) -> int:
    """Ignores SIGTERM and leaves a grandchild that does so too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    steps(journal, run, 1, 12)
    child = subprocess.Popen(["sleep", "300"])
    journal.log(f"grandchild {child.pid}")
    while True:
        time.sleep(1)


def torn(journal: Journal, run: RunDir, attempt: AttemptDir) -> int:
    """Dies in the middle of a line; the next attempt is good."""
    if attempt.n > 1:
        return good(journal, run, attempt)
    steps(journal, run, 1, 15)
    with open(attempt.journal, "ab") as file:
        file.write(b'{"v":1,"n":99,"t":1.0,"event":"metr')
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def dies(journal: Journal, run: RunDir, attempt: AttemptDir) -> int:
    """Dies at the same step every time, without a new checkpoint."""
    steps(journal, run, newest(run) + 1, newest(run) + 5)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def silent(journal: Journal, run: RunDir, attempt: AttemptDir) -> int:
    """Ends with status 0 and no last word."""
    return 0


def diverged(journal: Journal, run: RunDir, attempt: AttemptDir) -> int:
    """Says that the loss became NaN."""
    journal.write("metrics", step=1, of=40, values={"train_loss": float("nan")})
    words = {"code": "diverged.loss", "message": "At step 2 the loss was nan.", "hint": "Lower the rate."}
    problems = [{"loc": ["learning_rate"], "code": "x", "message": "m"}]
    journal.write("failed", **words, family="diverged", trace="", problems=problems)
    return 6


def chatty(journal: Journal, run: RunDir, attempt: AttemptDir) -> int:
    """Ten thousand points and as many log lines, then the end."""
    for step in range(1, 10_001):
        journal.write("metrics", step=step, of=10_000, values={"train_loss": 1.0 / step})
        journal.log(f"\x1b[31mline {step}\x1b[0m")
    finish(journal, run, 10_000)
    return 0


def lingering(journal: Journal, run: RunDir, attempt: AttemptDir) -> int:
    """Says that it has finished and then hangs."""
    steps(journal, run, 1, 40)
    finish(journal, run)
    while True:
        time.sleep(1)


MODES = {f.__name__: f for f in (good, slow, deaf, torn, dies, silent, diverged, chatty, lingering)}

if __name__ == "__main__":
    sys.exit(main())
