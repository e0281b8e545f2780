"""``manage.py pipeline``."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.db import connection

from mlxplatform.core.access import Role, make_user
from pipelines import services
from pipelines.catalog import TEMPLATES
from pipelines.models import Pipeline, PipelineRun
from registry.models import RegisteredModel
from tests.pipelines.definitions import ALONE, MEASURED, make_inputs, measured
from training.models import Dataset, Job

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def boss(db: None) -> None:
    make_user("ada", Role.ADMIN, superuser=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "measured.yaml"
    path.write_text(yaml.safe_dump(MEASURED, sort_keys=False))
    return path


def pipeline(*words: str) -> str:
    """What the command writes."""
    out = io.StringIO()
    call_command("pipeline", *words, stdout=out, stderr=out)
    return out.getvalue()


def refused(*words: str) -> str:
    with pytest.raises(CommandError) as error:
        pipeline(*words)
    assert error.value.returncode == 1
    return str(error.value)


@pytest.fixture
def worker(transactional_db: None, boss: None) -> Iterator[None]:
    """Does what comes next in every run, as the real worker's sweep."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            services.advance_all()
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    over.set()
    thread.join()


def test_a_right_file_is_right(file: Path) -> None:
    assert pipeline("validate", str(file)) == (
        "'Measured' is right: 3 steps. It asks for: model (model), data (dataset), rows (number).\n"
    )
    assert Pipeline.objects.count() == 0


def test_every_problem_of_a_file_has_its_line(file: Path) -> None:
    text = file.read_text().replace("loss < 2", "loss <").replace("kind: evaluate", "kind: dance")
    file.write_text(text)
    said = refused("validate", str(file))
    at = {word: n for n, line in enumerate(text.splitlines(), 1) for word in ("dance", "loss <") if word in line}
    assert f"line {at['dance']}, steps.0.kind: There is no kind of step 'dance'. Known are: train" in said
    assert f"line {at['loss <']}, steps.1.settings.condition: " in said


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"steps: [", b"[]", b""])
def test_what_is_no_pipeline_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(raw)
    assert refused("validate", str(path))
    assert "cannot be read" in refused("validate", str(tmp_path / "none.yaml"))
    assert "cannot be read" in refused("validate", str(tmp_path))


@pytest.mark.parametrize("name", TEMPLATES.names)
def test_what_is_exported_is_right(name: str, tmp_path: Path) -> None:
    path = tmp_path / "made.yaml"
    path.write_text(pipeline("export", name))
    assert "is right" in pipeline("validate", str(path))


def test_names_stand_for_newest_versions(file: Path) -> None:
    chosen = make_inputs()
    RegisteredModel.objects.update(name="Smol LM")
    said = pipeline("run", str(file), "--input", "model=Smol LM", "--input", "data=data", "--input", "rows=3")
    run = PipelineRun.objects.get()
    assert run.inputs == {**chosen, "rows": 3}
    assert f"Run #{run.number} of 'Measured' has begun ({run.pk})." in said
    assert "No worker runs" in said


def test_ids_are_taken_too_and_a_key_starts_one_run(file: Path) -> None:
    words = [word for name, key in make_inputs().items() for word in ("--input", f"{name}={key}")]
    for _ in range(2):
        pipeline("run", str(file), *words, "--key", "nightly")
    assert PipelineRun.objects.count() == Pipeline.objects.count() == 1


def test_a_wrong_choice_is_told_as_a_whole(file: Path) -> None:
    make_inputs()
    said = refused("run", str(file), "--input", "model=nobody", "--input", "rows=many", "--input", "x=1")
    assert "inputs.model: There is no model 'nobody' with a version. There are: base." in said
    assert "inputs.data: 'data' is not chosen." in said
    assert "inputs.rows: 'rows' is no number: many." in said
    assert "inputs.x: There is no input 'x'." in said
    assert PipelineRun.objects.count() == 0
    assert "'model' is no input" in refused("run", str(file), "--input", "model")


def test_things_in_the_trash_have_no_name(file: Path) -> None:
    make_inputs()
    Dataset.objects.update(deleted_at="2026-01-01T00:00:00Z")
    assert "There are: none." in refused("run", str(file), "--input", "model=base", "--input", "data=data")


def test_a_changed_file_is_the_next_version_of_its_pipeline(tmp_path: Path) -> None:
    path = tmp_path / "alone.json"
    for condition in ("1 < 2", "1 < 2", "1 < 3"):
        path.write_text(json.dumps({**ALONE, "steps": [{**ALONE["steps"][0], "settings": {"condition": condition}}]}))
        pipeline("run", str(path))
    assert [version.n for version in Pipeline.objects.get().versions.all()] == [2, 1]
    assert "1 < 2" in pipeline("export", "Alone", "--version", "1") and "1 < 3" in pipeline("export", "Alone")
    assert "has no version 3; the newest is 2" in refused("export", "Alone", "--version", "3")


def test_a_template_and_a_name_can_be_run() -> None:
    said = refused("run", "chatbot")
    assert "inputs.model: 'Model' is not chosen." in said and Pipeline.objects.get().template == "chatbot"
    services.create(Pipeline.objects.get().owner, services.checked(ALONE))
    pipeline("run", "Alone")
    pipeline("run", str(Pipeline.objects.get(name="Alone").pk))
    assert PipelineRun.objects.count() == 2
    assert "Known are: chatbot" in refused("run", "nothing")


def test_waiting_for_the_end(worker: None, tmp_path: Path) -> None:
    path = tmp_path / "alone.json"
    path.write_text(json.dumps(ALONE))
    said = pipeline("run", str(path), "--wait").splitlines()
    assert [line.split("  ")[1] for line in said[-4:]] == [
        "run: running",
        "gate: running",
        "gate: succeeded",
        "run: succeeded",
    ]
    path.write_text(json.dumps({**ALONE, "steps": [{**ALONE["steps"][0], "settings": {"condition": "2 < 1"}}]}))
    assert "failed. 'gate' failed: Not passed" in refused("run", str(path), "--wait")


def test_logs_of_a_run_and_of_a_step(file: Path) -> None:
    chosen = make_inputs()
    pipeline("run", str(file), *(word for name, key in chosen.items() for word in ("--input", f"{name}={key}")))
    run = PipelineRun.objects.get()
    services.advance(run.pk)
    assert pipeline("logs", str(run.number), "--step", "measure") == ""
    attempt = Job.objects.get().attempts.create(n=1, fence=1)
    attempt.folder.root.mkdir(parents=True)
    attempt.folder.stdout.write_text("reading rows\n")
    assert pipeline("logs", str(run.number), "--step", "measure") == "reading rows\n"
    measured(run.pk, 1.0)
    said = pipeline("logs", f"#{run.number}")
    assert "measure: succeeded" in said and "gate: succeeded  Passed: 1 against 2 (loss < 2)." in said
    assert f"approve waits for a person, on the page of run #{run.number}." in said
    assert pipeline("logs", str(run.pk)) == said
    assert "has no step 'none'. There are: measure, gate, approve." in refused("logs", "1", "--step", "none")
    assert "There is no run '99'. The newest is #1." in refused("logs", "99")


def test_the_list_shows_pipelines_with_their_last_runs_and_templates() -> None:
    owner = make_user("bob", Role.EDITOR)
    made = services.create(owner, services.checked(ALONE))
    assert "Alone · v1 · 1 step · never run" in pipeline("list")
    services.advance(services.start(owner, made, {}).pk)
    said = pipeline("list")
    assert "Alone · v1 · 1 step · last run #1 succeeded" in said
    assert all(f"template {name} · " in said for name in TEMPLATES.names)


def test_without_an_administrator_it_says_so(django_user_model: type) -> None:
    django_user_model.objects.all().delete()  # type: ignore[attr-defined]
    assert refused("list") == "There is no administrator yet. Start the dashboard once."
