"""Trainings of a tiny model for the tests: in this process, or as the engine's own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx

from training.engine.commands import train
from training.engine.config.training import TrainConfig, check
from training.engine.errors import Exit, StopAsked
from training.engine.run.journal import Event, read
from training.engine.run.rundir import RunDir
from training.engine.run.session import Session

QUIET = {"sample_tokens": 0, "steps_per_eval": 1000, "save_every": 1000, "max_seq_length": 256}


class Killed(BaseException):
    """Stands for `kill -9` in this process: nothing is saved on the way out."""


class Halting(Session):
    """A session that ends at micro-batch ``micro`` after step ``step``, by ``how``."""

    halt: tuple[int, int] | None = None
    how: BaseException = StopAsked("signal SIGTERM", Exit.STOPPED)
    _since = 0
    _step = 0

    def saw(self, event: Event) -> None:
        if event.event == "metrics":
            self._step, self._since = event.fields["step"], 0

    def check(self) -> None:
        if self.halt is not None and self._step == self.halt[0]:
            self._since += 1
            if self._since > self.halt[1]:
                raise self.how
        super().check()


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def rows(count: int) -> list[dict[str, Any]]:
    """Rows of very different length, always the same."""
    return [chat(f"What is {i}?", f"{i} is " + "so much " * (i * 5 % 7) + f"and {i * i}.") for i in range(count)]


def data(folder: Path, **splits: list[dict[str, Any]]) -> Path:
    """A data folder with the given splits; 14 rows to train if none are given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in (splits or {"train": rows(14)}).items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return folder


def request(model: Path, data: Path, **settings: Any) -> dict[str, Any]:
    """A whole configuration that does nothing beside training, unless told to."""
    return {"schema": 1, "model": str(model), "data": str(data), "iters": 6, "batch_size": 2, **QUIET, **settings}


def run(
    root: Path,
    config: dict[str, Any],
    halt: tuple[int, int] | None = None,
    how: BaseException | None = None,
    echo: Callable[[Event], None] | None = None,
) -> Exit:
    """One attempt in this process. Lets go of the run folder afterwards, as an ended process does."""
    run_dir = RunDir(root)
    session: Halting

    def both(event: Event) -> None:
        session.saw(event)
        if echo is not None:
            echo(event)

    session = Halting(run_dir, run_dir.attempt(run_dir.newest_attempt() + 1), both)
    session.halt, session.how = halt, how or session.how
    try:
        return session.run(lambda s: train.run(check(TrainConfig, config), s))
    except Killed:
        return Exit.BUG
    finally:
        assert session._lock is not None
        os.close(session._lock)


def start(
    root: Path, config: dict[str, Any], attempt: int | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    """One attempt as a process of its own."""
    path = root.with_name(root.name + ".json")
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "training.engine", "train", "--config", str(path), "--run-dir", str(root)]
    command += ["--attempt", str(attempt)] if attempt else []
    # One thread: on a busy machine the threads of a small matrix product wait for each other for ages.
    settings = os.environ | {"OPENBLAS_NUM_THREADS": "1"} | environment
    log = open(root.with_name(root.name + ".log"), "ab")  # noqa: SIM115 - a file, because nobody drains a pipe here
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=settings)


def until(root: Path, seen: Callable[[Event], bool], process: subprocess.Popen[bytes], seconds: float = 60) -> Event:
    """Wait until the newest attempt's journal holds an event that is ``seen``."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        for event in events(root):
            if seen(event):
                return event
        assert process.poll() is None, root.with_name(root.name + ".log").read_text()
        time.sleep(0.002)
    raise AssertionError(f"not seen within {seconds} s: {[e.event for e in events(root)]}")


def is_step(n: int) -> Callable[[Event], bool]:
    return lambda event: event.event == "metrics" and event.fields["step"] >= n


def events(root: Path, attempt: int | None = None) -> list[Event]:
    run_dir = RunDir(root)
    return read(run_dir.attempt(attempt or run_dir.newest_attempt()).journal)[0]


def last(root: Path) -> Event:
    """The last word; every attempt has exactly one."""
    words = [e for e in events(root) if e.event in ("finished", "stopped", "failed")]
    assert len(words) == 1
    assert events(root)[-1] is not None and events(root)[-1].n == words[0].n
    return words[0]


def points(root: Path, name: str = "train_loss") -> dict[int, float]:
    """A curve over all attempts; later attempts stand for the steps they did again."""
    found = {}
    for n in range(1, RunDir(root).newest_attempt() + 1):
        told = [e.fields for e in events(root, n) if e.event == "metrics" and name in e.fields["values"]]
        found |= {fields["step"]: fields["values"][name] for fields in told}
    return found


def arrays(root: Path, step: int, file: str = "adapters") -> dict[str, mx.array]:
    loaded = mx.load(str(root / "checkpoints" / f"{step:07d}" / f"{file}.safetensors"))
    assert isinstance(loaded, dict)
    return loaded


def assert_same(one: Path, other: Path, step: int) -> None:
    """Weights, optimizer, random stream and curves of two runs agree bit for bit."""
    for file in ("adapters", "optimizer", "state"):
        left, right = arrays(one, step, file), arrays(other, step, file)
        assert left.keys() == right.keys()
        assert all(mx.array_equal(left[k], right[k]) for k in left), file
    for name in ("train_loss", "grad_norm", "learning_rate", "trained_tokens", "epoch"):
        assert points(one, name) == points(other, name)
