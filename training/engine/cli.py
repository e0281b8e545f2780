"""The engine's command line.

    python -m training.engine train | evaluate --config c.json --run-dir d/
    python -m training.engine import-model | import-dataset --config c.json --run-dir d/
    python -m training.engine make-student | generate-dataset --config c.json --run-dir d/
    python -m training.engine validate-data | tokens | memory | fit | machine --config c.json

Commands with a run folder write a journal and may take hours; the others answer at once on stdout.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from training.engine.catalog.kinds import KINDS, Kind
from training.engine.catalog.questions import QUESTIONS, Question
from training.engine.config.training import TrainConfig, load
from training.engine.errors import ConfigError, EngineError, Exit, RankDied
from training.engine.report import Silent
from training.engine.run import captain, rank
from training.engine.run.journal import Event
from training.engine.run.rundir import RunDir
from training.engine.run.session import Session, refuse


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.engine", description="Train and import models with MLX.")
    commands = parser.add_subparsers(dest="command", required=True)
    for kind in KINDS.values():
        command = commands.add_parser(kind.command, help=kind.label)
        command.add_argument("--config", type=Path, required=True, help="JSON file with the whole request")
        command.add_argument("--run-dir", type=Path, required=True, help="folder for journal, checkpoints and log")
        command.add_argument("--attempt", type=_positive, help="number of this attempt; the next one if left out")
        command.add_argument("--quiet", action="store_true", help="do not print the journal on stdout")
        command.set_defaults(work=_work, what=kind)
    command = commands.add_parser("rank", help="one rank of a distributed training; started by train")
    for name, kind_of in (("config", Path), ("folder", Path), ("attempt", _positive), ("events", Path)):
        command.add_argument(f"--{name}", type=kind_of, required=True)
    command.add_argument("--captain", required=True)
    command.add_argument("--devices", default="")
    command.set_defaults(work=_rank, what=None)
    for question in QUESTIONS.values():
        command = commands.add_parser(question.command, help=question.label)
        command.add_argument("--config", type=Path, required=True, help="JSON file with the question")
        command.set_defaults(work=_ask, what=question)
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Whatever the locale: a letter that it lacks is no reason to end a training.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    return int(args.work(args.what, args))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _work(kind: Kind, args: argparse.Namespace) -> int:
    """A command with a run folder."""
    run_dir = RunDir(args.run_dir.resolve())
    attempt = run_dir.attempt(args.attempt or run_dir.newest_attempt() + 1)
    try:
        session = Session(run_dir, attempt, None if args.quiet else _print)
    except EngineError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return error.exit_code
    session.listen()

    def work(session: Session) -> dict[str, Any]:
        config = load(kind.config, args.config)
        if isinstance(config, TrainConfig) and config.ranks > 1:
            return captain.run(args.config, config, session)
        implementation = _load(kind.implementation)
        result: dict[str, Any] = implementation(config, session)
        return result

    try:
        return session.run(work)
    except RankDied as death:
        return captain.die_like(death)


def _rank(_what: None, args: argparse.Namespace) -> int:
    """One process of a training with several."""
    return rank.run(args)


def _ask(question: Question, args: argparse.Namespace) -> Exit:
    """A command that answers at once: JSON on stdout, problems as JSON too."""
    try:
        answer = _load(question.implementation)(load(question.config, args.config), Silent())
    except ConfigError as error:
        json.dump({"failed": _facts(error)}, sys.stdout)
        return refuse(error)
    except EngineError as error:
        json.dump({"failed": _facts(error)}, sys.stdout)
        return error.exit_code
    json.dump(answer, sys.stdout, ensure_ascii=False)
    return Exit.FINISHED


def _facts(error: EngineError) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "problems": [problem.as_dict() for problem in error.problems],
    }


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _print(event: Event) -> None:
    """The journal in short, for whoever runs the engine by hand; goes into stdout.log otherwise."""
    fields = " ".join(f"{k}={_short(v)}" for k, v in event.fields.items())
    try:
        print(f"{event.event} {fields}", flush=True)
    except OSError:
        # Nobody reads any more (`| head`), or the log's disk is full: the training goes on without echo.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "{" + " ".join(f"{k}={_short(v)}" for k, v in value.items()) + "}"
    text = str(value)
    return text if len(text) <= 300 else text[:300] + "…"
