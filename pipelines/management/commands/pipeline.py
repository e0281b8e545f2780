"""``python manage.py pipeline …``: judge, run, write out, list and follow pipelines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from mlxplatform.core.errors import DomainError
from pipelines import checking, choices, files, services
from pipelines.catalog import TEMPLATES
from pipelines.definition import Definition
from pipelines.models import Pipeline, PipelineRun, StepRun
from pipelines.states import RunState, StepState
from training.alive import worker_is_alive
from training.engine.errors import Problem
from training.logs import read_log

ENDINGS = (".yaml", ".yml", ".json")
PAUSE = 0.5  # seconds between two looks at a run
BLOCK = 64 << 10  # bytes of a log at once


class Command(BaseCommand):
    help = "Judge, run, write out, list and follow pipelines. Ends with status 1 where something is wrong."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        one = actions.add_parser("validate", help="judge a file: every problem with its line")
        one.add_argument("file", help="a definition as YAML or JSON")
        one = actions.add_parser("run", help="start a run")
        one.add_argument("what", help="a template, a pipeline's name or id, or a file")
        one.add_argument("--input", action="append", default=[], metavar="NAME=VALUE", dest="inputs",
                         help="a number, or a model or data set by its name (newest version) or id")  # fmt: skip
        one.add_argument("--key", default="", help="the same key starts one run only")
        one.add_argument("--wait", action="store_true", help="follow it to its end; status 1 unless it succeeds")
        one = actions.add_parser("export", help="write a definition as YAML")
        one.add_argument("what", help="a pipeline's name or id, or a template")
        one.add_argument("--version", type=int, default=0, dest="n", help="number of a definition; the newest if empty")
        actions.add_parser("list", help="pipelines and templates")
        one = actions.add_parser("logs", help="what happened to a run")
        one.add_argument("run", help="the run's number or id")
        one.add_argument("-f", "--follow", action="store_true", help="go on until it has ended")
        one.add_argument("--step", default="", metavar="NAME", help="the output of this step's job instead")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except DomainError as error:
            raise CommandError("\n".join(map(_said, error.problems))) from None
        except KeyboardInterrupt:
            raise CommandError("You look no longer; the run goes on.", returncode=130) from None

    def _validate(self, options: Mapping[str, Any]) -> None:
        definition = _read(options["file"])
        asks = ", ".join(f"{name} ({given.type})" for name, given in definition.inputs.items()) or "nothing"
        self.stdout.write(f"'{definition.name}' is right: {_steps(definition.steps)}. It asks for: {asks}.")

    def _run(self, options: Mapping[str, Any]) -> None:
        user = _person()
        pipeline = _to_run(user, options["what"])
        chosen = choices.named(user, pipeline.newest.definition, _pairs(options["inputs"]))
        run = services.start(user, pipeline, chosen, options["key"])
        self.stdout.write(f"Run #{run.number} of '{pipeline}' has begun ({run.pk}).")
        if not worker_is_alive():
            self.stderr.write("No worker runs, so it waits. Start one: python manage.py serve")
        if options["wait"]:
            self._follow(run)
            if run.state != RunState.SUCCEEDED:
                raise CommandError(f"Run #{run.number} {run.state}. {run.message}".strip())

    def _export(self, options: Mapping[str, Any]) -> None:
        if options["what"] in TEMPLATES:
            self.stdout.write(services.template_yaml(options["what"]), ending="")
            return
        pipeline = _pipeline(_person(), options["what"])
        row = pipeline.versions.filter(n=options["n"]).first() if options["n"] else pipeline.newest
        if row is None:
            raise CommandError(f"'{pipeline}' has no version {options['n']}; the newest is {pipeline.newest.n}.")
        self.stdout.write(files.dump(row.definition), ending="")

    def _list(self, _options: Mapping[str, Any]) -> None:
        for pipeline in _pipelines(_person()):
            version = pipeline.newest
            last = PipelineRun.objects.filter(version__pipeline=pipeline).order_by("-number").first()
            run = f"last run #{last.number} {last.state}" if last else "never run"
            self.stdout.write(f"{pipeline.name} · v{version.n} · {_steps(version.body['steps'])} · {run}")
        for template in TEMPLATES:
            self.stdout.write(f"template {template.name} · {template.text}")

    def _logs(self, options: Mapping[str, Any]) -> None:
        run = _a_run(_person(), options["run"])
        if options["step"]:
            self._output(run, options["step"], follow=options["follow"])
        else:
            self._follow(run, follow=options["follow"])

    def _follow(self, run: PipelineRun, *, follow: bool = True) -> None:
        """Write the run's events, and if asked for go on until it has ended."""
        after = 0
        while True:
            run.refresh_from_db()
            ended = run.has_ended
            for event in run.events.filter(pk__gt=after).order_by("pk"):
                after = event.pk
                words = f"{event.at:%Y-%m-%d %H:%M:%S}  {event.step or 'run'}: {event.to}"
                self.stdout.write(f"{words}  {event.message}".rstrip())
                if event.to == StepState.APPROVAL and not ended:
                    self.stdout.write(f"{' ' * 21}{event.step} waits for a person, on the page of run #{run.number}.")
            if ended or not follow:
                return
            self.stdout.flush()
            time.sleep(PAUSE)

    def _output(self, run: PipelineRun, name: str, *, follow: bool) -> None:
        """Write what the job of a step says, and if asked for go on until the step has ended."""
        offset = 0
        while True:
            step = _a_step(run, name)
            ended = step.has_ended
            block = read_log(step.job, offset=offset, limit=BLOCK) if step.job is not None else None
            if block is not None and block.text:
                self.stdout.write(block.text, ending="")
                offset = block.next
            elif ended or not follow:
                return
            else:
                self.stdout.flush()
                time.sleep(PAUSE)


def _steps(steps: Sequence[Any]) -> str:
    return f"{len(steps)} step{'' if len(steps) == 1 else 's'}"


def _said(problem: Problem, line: int | None = None) -> str:
    place = ".".join(map(str, problem.loc))
    where = [f"line {line}"] if line else []
    where += [place] if place and not problem.message.startswith(place) else []
    return f"{', '.join(where)}{': ' if where else ''}{problem.message} {problem.hint}".strip()


def _person() -> User:
    user = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if user is None:
        raise CommandError("There is no administrator yet. Start the dashboard once.")
    return user


def _read(name: str) -> Definition:
    """The definition in a file. Raises CommandError with all problems and their lines."""
    try:
        with open(name, "rb") as file:
            raw = file.read(files.LARGEST + 1)
        text = raw.decode()
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise CommandError(f"{name} is no text in UTF-8.") from None
    definition, problems = checking.read(files.load(text))
    if problems or definition is None:
        lines = files.lines(text, [problem.loc for problem in problems])
        raise CommandError("\n".join(_said(*told) for told in zip(problems, lines, strict=True)))
    return definition


def _pairs(words: list[str]) -> dict[str, str]:
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise CommandError(f"'{wrong[0][:60]}' is no input. Write it like: --input model=SmolLM2")
    return {name.strip(): value.strip() for name, _, value in (word.partition("=") for word in words)}


def _pipelines(user: User) -> Any:
    return Pipeline.objects.visible_to(user).filter(deleted_at=None).order_by("name", "-created_at")


def _pipeline(user: User, what: str) -> Pipeline:
    """The pipeline of this id, or the newest of this name. Raises CommandError."""
    key = _key(what)
    rows = _pipelines(user)
    found: Pipeline | None = (rows.filter(pk=key) if key else rows.filter(name=what)).first()
    if found is None:
        known = ", ".join([*TEMPLATES.names, *dict.fromkeys(rows.values_list("name", flat=True)[:20])])
        raise CommandError(f"There is no pipeline, template or file '{what[:60]}'. Known are: {known}.")
    return found


def _to_run(user: User, what: str) -> Pipeline:
    """The pipeline to run. A file's definition becomes the newest one of the pipeline of its name."""
    if what in TEMPLATES:
        return services.from_template(user, what)
    if not what.endswith(ENDINGS) and not Path(what).is_file():
        return _pipeline(user, what)
    definition = _read(what)
    found: Pipeline | None = _pipelines(user).filter(name=definition.name).first()
    if found is None:
        return services.create(user, definition)
    services.change(user, found, definition)
    return found


def _a_run(user: User, word: str) -> PipelineRun:
    rows = PipelineRun.objects.visible_to(user)
    number, key = word.removeprefix("#"), _key(word)
    found: PipelineRun | None = None
    if key:
        found = rows.filter(pk=key).first()
    elif number.isascii() and number.isdigit():
        found = rows.filter(number=min(int(number), 1 << 31)).first()
    if found is None:
        newest = rows.order_by("-number").first()
        hint = f"The newest is #{newest.number}." if newest else "There is none yet."
        raise CommandError(f"There is no run '{word[:60]}'. {hint}")
    return found


def _a_step(run: PipelineRun, name: str) -> StepRun:
    found = run.steps.filter(name=name).select_related("job").first()
    if found is None:
        known = ", ".join(run.steps.values_list("name", flat=True))
        raise CommandError(f"Run #{run.number} has no step '{name[:60]}'. There are: {known}.")
    return found


def _key(word: str) -> UUID | None:
    try:
        return UUID(word)
    except ValueError:
        return None
