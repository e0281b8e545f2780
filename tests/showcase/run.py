"""``make showcase``: every method on SmolLM2-135M, short and for real; fails if one did not learn.

    python -m tests.showcase.run [--short] [--write] [--only sft,dpo]

Writes docs/showcase.md. Each training is a process of the engine, as the platform starts it. Models and data sets
are kept in ``bench/`` of the data folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench import child, cpu
from tests.showcase.cases import BASE, ROWS, SHORT, VALID, Case, config, select
from tests.showcase.page import PAGE, Shown, markdown
from training.engine.run import journal
from training.engine.run.journal import Event

SHARES = ("generation", "scoring", "learning")
_SHORT_ROWS = 60


class Stage:
    """The folder of one showcase, and what was made in it so far."""

    def __init__(self, home: Path, base: Path, *, short: bool, rows: int) -> None:
        self.home, self.short, self.rows = home, short, rows
        self.bases = {BASE: base}
        self.adapters: dict[str, Path] = {}
        self.data: dict[str, Path] = {}
        shutil.rmtree(home / "runs", ignore_errors=True)

    def place(self, name: str) -> dict[str, str]:
        """What a training starts from, or another model that it needs."""
        if name == "student":
            return {"model": str(self.student())}
        if name in self.adapters:
            return {"model": str(self.bases[BASE]), "adapter": str(self.adapters[name])}
        return {"model": str(self.bases[name])}

    def student(self) -> Path:
        """Every other layer of the base."""
        if "student" not in self.bases:
            target = self.home / "runs" / "student-model"
            self.engine("make-student", "student", {"model": self.place(BASE), "target": str(target)})
            self.bases["student"] = target
        return self.bases["student"]

    def rows_of(self, form: str) -> Path:
        """A data set of Python's documentation."""
        if form not in self.data:
            source = {"kind": "python_docs", "form": form, "limit": self.rows}
            asked = {"source": source, "valid_share": VALID, "target": str(self.home / "datasets")}
            events, _, _ = self.engine("import-dataset", f"data-{form}", asked)
            self.data[form] = Path(_result(events)["path"])
        return self.data[form]

    def engine(self, command: str, name: str, asked: dict[str, Any]) -> tuple[list[Event], child.Ended, float]:
        """One command of the engine: its journal, its end, its seconds. Raises SystemExit if it fails."""
        folder = self.home / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "asked.json").write_text(json.dumps({"schema": 1, **asked}))
        line = [
            "-m",
            "training.engine",
            command,
            "--config",
            str(folder / "asked.json"),
            "--run-dir",
            str(folder / "run"),
        ]
        began = time.monotonic()
        ended = child.run(line, folder / "log", child.environment(MLXP_HOME=str(self.home)))
        seconds = time.monotonic() - began
        events = journal.read(folder / "run" / "attempts" / "1" / "events.jsonl", limit=1 << 30)[0]
        if ended.code != 0:
            words = [e.fields.get("message", "") for e in events if e.event == "failed"]
            raise SystemExit(f"{name} ended with {ended.code}: {(words or [ended.output[-800:]])[0]}")
        return events, ended, seconds

    def train(self, case: Case) -> Shown:
        """One case; its adapter can be started from afterwards."""
        steps = min(case.steps, SHORT) if self.short else case.steps
        start = self.place(case.start)
        asked = {
            **config(case, steps=steps),
            "model": start["model"],
            "data": str(self.rows_of(case.form)),
            "others": {role: self.place(name) for role, name in case.others.items()},
            "kernel_cache": str(self.home / "kernels"),
        }
        if "adapter" in start:
            asked["adapter_path"] = start["adapter"]
        events, ended, seconds = self.engine("train", case.name, asked)
        checkpoints = sorted((self.home / "runs" / case.name / "run" / "checkpoints").iterdir())
        if asked["adapter"] != "full":
            self.adapters[case.name] = checkpoints[-1]
        return told(case, steps, events, seconds, ended.peak_gib)


def _result(events: list[Event]) -> dict[str, Any]:
    found: dict[str, Any] = next(e.fields["result"] for e in reversed(events) if e.event == "finished")
    return found


def told(case: Case, steps: int, events: list[Event], seconds: float, peak_gib: float) -> Shown:
    """What a journal says of a training."""
    judged = [e.fields["values"] for e in events if e.event == "evaluated"]
    metrics = [e.fields["values"] for e in events if e.event == "metrics"]
    trained, spent = metrics[-1]["trained_tokens"], sum(one["step_seconds"] for one in metrics)
    shares: dict[str, float] = {}
    for name in SHARES:
        found = [one[f"{name}_share"] for one in metrics if f"{name}_share" in one]
        shares |= {name: sum(found) / len(found)} if found else {}
    curve = [one[case.curve] for one in metrics if case.curve in one]
    rate = trained / spent if spent else 0.0
    return Shown(case, steps, judged[0], judged[-1], seconds, rate, peak_gib, curve, shares)


def main() -> None:
    """Parse the command line, train, print, write, and end with 1 if anything went the wrong way."""
    parser = argparse.ArgumentParser(prog="python -m tests.showcase.run", description=__doc__)
    parser.add_argument("--short", action="store_true", help=f"{SHORT} updates each, few rows: some minutes")
    parser.add_argument("--write", action="store_true", help="write docs/showcase.md")
    parser.add_argument("--only", default="", help="names of cases, with commas; what they need is run, too")
    parser.add_argument("--model", type=Path, help="another model folder; SmolLM2-135M if left out")
    asked = parser.parse_args()
    if asked.write and (asked.short or asked.only):
        parser.error("only the whole run may write the page")
    child.end_on_sigterm()
    home = Path(os.environ.get("MLXP_HOME", "var")).resolve() / "bench"
    (home / "showcase").mkdir(parents=True, exist_ok=True)
    base = asked.model or Path(cpu.prepare(home, 4, longest=128).model)
    stage = Stage(home / "showcase", base, short=asked.short, rows=_SHORT_ROWS if asked.short else ROWS)
    shown = []
    for case in select(asked.only):
        shown.append(stage.train(case))
        print(f"{case.name}: {shown[-1].seconds:.0f} s, {shown[-1].before} → {shown[-1].after}", flush=True)
    command = "make showcase" + (" SHORT=1" if asked.short else "")
    text = markdown(shown, command)
    print("\n" + text, flush=True)
    problems = [one.problem for one in shown if one.problem]
    if asked.write and not problems:
        PAGE.write_text(text, encoding="utf-8")
    if asked.short and problems:
        print("Too short to be sure:\n" + "\n".join(problems))
    else:
        sys.exit("\n".join(problems) or 0)


if __name__ == "__main__":
    main()
