"""``make showcase-pipelines``: four templates end to end on SmolLM2-135M, through the worker, short and for real.

    python -m tests.showcase.pipelines [--write] [--updates 4] [--only chatbot]

Writes docs/showcase-pipelines.md. Approvals are given by this program, as a person would over the API. Fails if a run
does not succeed. The data folder is ``bench/pipelines`` of the usual one; ``--fresh`` throws it away first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import child
from tests.showcase.pipelines_page import PAGE, markdown

if TYPE_CHECKING:
    from pipelines.models import PipelineRun
    from training.models import Job

TEMPLATES = ("chatbot", "efficient_llm", "aligned_model", "research")
ROWS, VALID = 96, 0.125
PATIENCE_S = 3600


def _setup(home: Path) -> Any:
    """The platform on a data folder of its own; its administrator."""
    os.environ |= {"MLXP_HOME": str(home), "DJANGO_SETTINGS_MODULE": "mlxplatform.settings", "MLXP_RESERVE_GB": "0"}
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from mlxplatform.core.access import Role, make_user

    call_command("migrate", verbosity=0)
    return User.objects.filter(is_superuser=True).first() or make_user("showcase", Role.ADMIN, superuser=True)


def _ended(job: Job) -> Job:
    """The job when it has succeeded. Raises SystemExit if it does not."""
    from training.states import ENDED, JobState

    end = time.monotonic() + PATIENCE_S
    while job.state not in ENDED and time.monotonic() < end:
        time.sleep(0.2)
        job.refresh_from_db()
    if job.state != JobState.SUCCEEDED:
        raise SystemExit(f"{job} is {job.state}: {job.message}")
    return job


def _choices(user: Any) -> dict[str, str]:
    """Ids of the model, the smaller one and the data sets, by the names of the templates' inputs."""
    from registry.models import ModelVersion
    from training import demo, services
    from training.models import DatasetVersion

    found = {}
    source, options = {"kind": "python_docs", "limit": ROWS}, {"valid_share": VALID}
    jobs = [services.create_model_import(user, dict(demo.MODEL_SOURCE), demo.MODEL_NAME, idempotency_key="model")]
    for form in ("chat", "preference"):
        asked = {**source, "form": form}
        jobs.append(services.create_dataset_import(user, asked, f"Python {form}", options, idempotency_key=form))
    for name, job in zip(("model", "data", "pairs"), jobs, strict=True):
        table: Any = ModelVersion if name == "model" else DatasetVersion
        column = "model_version" if name == "model" else "dataset_version"
        found[name] = str(table.objects.get(pk=_ended(job).result[column]).pk)
    student = services.create_student(user, found["model"], "every_other", idempotency_key="student")
    found["student"] = str(_ended(student).result["model_version"])
    return found


def _inputs(template: str, chosen: dict[str, str], updates: int) -> dict[str, Any]:
    roles = {"efficient_llm": {"teacher": "model", "model": "student", "data": "data"}}
    usual = {"model": "model", "data": "data", "pairs": "pairs"}
    student = {"student": "student"} if template in ("aligned_model", "research") else {}
    names = roles.get(template, usual | student)
    return {name: chosen[key] for name, key in names.items()} | {"updates": updates}


def _run(user: Any, template: str, inputs: dict[str, Any]) -> PipelineRun:
    """Start the template's pipeline, approve what waits, and return the run when it has ended."""
    from pipelines import services
    from pipelines.states import StepState

    run = services.start(user, services.from_template(user, template), inputs)
    end = time.monotonic() + PATIENCE_S
    told: dict[str, str] = {}
    while not run.has_ended and time.monotonic() < end:
        for step in run.steps.all():
            if told.get(step.name) != step.state:
                told[step.name] = step.state
                print(f"  {step.name}: {step.state} {step.message or step.why}", flush=True)
            if step.state == StepState.APPROVAL:
                services.approve(user, step, step.digest, "By the showcase.")
        time.sleep(0.3)
        run.refresh_from_db()
    print(f"{run} {run.state} {run.message}", flush=True)
    return run


def main() -> None:
    """Parse the command line, run, print, write, and end with 1 if a run did not succeed."""
    parser = argparse.ArgumentParser(prog="python -m tests.showcase.pipelines", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/showcase-pipelines.md")
    parser.add_argument("--updates", type=int, default=4, help="of each training stage")
    parser.add_argument("--only", default="", help="names of templates, with commas")
    parser.add_argument("--fresh", action="store_true", help="throw the showcase's data folder away first")
    asked = parser.parse_args()
    child.end_on_sigterm()
    home = Path(os.environ.get("MLXP_HOME", "var")).resolve() / "bench" / "pipelines"
    if asked.fresh:
        shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    user = _setup(home)
    log = home / "worker.log"
    with open(log, "ab") as out:
        worker = subprocess.Popen([sys.executable, "manage.py", "worker"], stdout=out, stderr=out)
    began = time.monotonic()
    try:
        chosen = _choices(user)
        wanted = [name for name in TEMPLATES if not asked.only or name in asked.only.split(",")]
        runs = [_run(user, name, _inputs(name, chosen, asked.updates)) for name in wanted]
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait()
    text = markdown(runs, time.monotonic() - began, asked.updates)
    print("\n" + text)
    if failed := [f"{run} has {run.state}: {run.message}" for run in runs if run.state != "succeeded"]:
        sys.exit("\n".join(failed))
    if asked.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
