"""How a job looks in a terminal: one line that moves while it runs, and samples side by side at its end."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from typing import TextIO

from training.models import Job, Sample
from training.states import ENDED, JobState

POLL_S = 0.3
BAR = 28  # characters


class Line:
    """A line that is written over in a terminal, and printed now and then into a file."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out, self._live, self._last, self._at = out, out.isatty(), "", 0.0

    def show(self, text: str, *, keep: bool = False) -> None:
        """Show ``text``; ``keep`` leaves it standing and begins a new line."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._out.write("\r" + text[:width].ljust(width) + ("\n" if keep else ""))
        elif keep or (text != self._last and time.monotonic() - self._at > 10):
            self._out.write(text + "\n")
            self._at = time.monotonic()
        self._last = text
        self._out.flush()


def follow(job: Job, line: Line, alive: Callable[[], None]) -> Job:
    """Show ``job`` until it ends; ``alive`` is asked again and again and may raise."""
    while True:
        job.refresh_from_db()
        line.show(describe(job), keep=job.state in ENDED)
        if job.state in ENDED:
            return job
        alive()
        time.sleep(POLL_S)


def describe(job: Job) -> str:
    """State, bar, loss, tokens per second and time left in one line."""
    if job.state in ENDED:
        return f"  {job.name}: {job.state}" + (f" ({job.message})" if job.state == JobState.FAILED else "")
    if job.kind != Job.Kind.TRAIN or not job.step:
        return f"  {job.name}: {job.phase or job.state}"
    values = dict(job.metrics.values_list("name", "last_value"))
    done = job.step / max(1, job.total_steps)
    left = (values.get("step_seconds") or 0.0) * (job.total_steps - job.step)
    figures = [f"step {job.step}/{job.total_steps}", f"loss {values.get('train_loss') or 0:.4f}"]
    figures += [f"{values.get('tokens_per_second') or 0:.0f} tokens/s", f"about {left:.0f} s left"]
    if job.phase == "evaluate":
        figures[-1] = "evaluating"
    bar = "█" * round(BAR * done) + "·" * (BAR - round(BAR * done))
    return f"  {bar} {100 * done:3.0f} %  " + " · ".join(figures)


def samples(job: Job, out: TextIO = sys.stdout) -> None:
    """The answers before and after the training, side by side."""
    last = job.samples.order_by("-step").values_list("step", flat=True).first() or 0
    before = {s.index: s for s in job.samples.filter(step=0)}
    after = {s.index: s for s in job.samples.filter(step=last)}
    width = max(30, (min(shutil.get_terminal_size((110, 40)).columns, 130) - 5) // 2)
    for index in sorted(before.keys() & after.keys()):
        out.write(f"\n  {before[index].prompt}\n")
        for left, right in _columns(before[index], after[index], width):
            out.write(f"  {left:<{width}} │ {right}\n")


def _columns(before: Sample, after: Sample, width: int) -> list[tuple[str, str]]:
    left = ["before", "-" * 6, *_wrap(before.text, width)]
    right = ["after", "-" * 5, *_wrap(after.text, width)]
    length = max(len(left), len(right))
    left += [""] * (length - len(left))
    right += [""] * (length - len(right))
    return list(zip(left, right, strict=True))


def _wrap(text: str, width: int) -> list[str]:
    return [line for part in text.strip().splitlines() for line in (textwrap.wrap(part, width) or [""])]
