"""What people can ask of jobs."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.env import env
from mlxplatform.core.errors import Conflict, Forbidden, Invalid, TooMuch
from mlxplatform.core.models import AuditEvent
from registry.models import ModelVersion
from tests.training.runs import make_job
from training import services, uploads, validation
from training.models import Job, JobEvent
from training.services import queue
from training.signals import job_queued
from training.states import JobState

pytestmark = pytest.mark.django_db


@pytest.fixture
def editor():
    return make_user("ed", Role.EDITOR)


@pytest.fixture
def parts():
    """Keyword arguments that start a training."""
    job = make_job()
    made = {"model_version_id": job.model_version_id, "dataset_version_id": job.dataset_version_id}
    Job.objects.all().delete()
    return made


def force(job: Job, state: str) -> Job:
    """Put a row into a state without the worker that would bring it there."""
    Job.objects.filter(pk=job.pk).update(state=state)
    job.refresh_from_db()
    return job


def codes(error: pytest.ExceptionInfo[Invalid]) -> set[str]:
    return {problem.code for problem in error.value.problems}


def test_create_fills_in_defaults_and_writes_event_and_audit(editor, parts) -> None:
    job = services.create_training(editor, **parts, settings={"iters": 7})
    assert job.settings["iters"] == 7
    assert job.settings["optimizer"]["name"] == "adamw"
    assert (job.number, job.name, job.last_seq) == (1, "base · data · 1", 1)
    assert JobEvent.objects.get(job=job).payload["state"] == "queued"
    assert AuditEvent.objects.filter(action="job.create", target=f"job {job.pk}").exists()


def test_create_rings_after_commit(editor, parts, django_capture_on_commit_callbacks) -> None:
    rung = []
    receiver = lambda job_id, **_: rung.append(job_id)
    job_queued.connect(receiver)
    with django_capture_on_commit_callbacks() as calls:
        job = services.create_training(editor, **parts)
    assert rung == []
    for call in calls:
        call()
    job_queued.disconnect(receiver)
    assert rung == [job.pk]


def test_create_reports_all_problems_at_once(editor, parts) -> None:
    ModelVersion.objects.update(quantization={"bits": 4}, context_length=100)
    settings = {"learning_rate": 7, "optimizer": "foo", "adapter": "full", "max_seq_length": 512}
    with pytest.raises(Invalid) as error:
        services.create_training(editor, **{**parts, "dataset_version_id": "x"}, settings=settings, priority=1000)
    assert codes(error) == {
        "config.less_than_equal", "optimizer.unknown", "adapter.needs_unquantised", "config.max_seq_length",
        "dataset.unknown", "priority.range",
    }  # fmt: skip


@pytest.fixture
def hostfile(tmp_path, monkeypatch):
    """An operator's hostfile with one further machine."""
    path = tmp_path / "hosts.json"
    path.write_text('[{"ssh": "studio", "ips": ["10.0.0.1"]}, {"ssh": "mini", "ips": ["10.0.0.2"]}]')
    monkeypatch.setattr(validation, "env", lambda: env().model_copy(update={"hostfile": str(path)}))
    return path


def test_other_machines_need_the_operators_hostfile(editor, parts) -> None:
    with pytest.raises(Invalid) as error:
        services.create_training(editor, **parts, settings={"ranks": 2, "hosts": ["mini"]})
    assert codes(error) == {"hosts.not_allowed"}


def test_only_the_hostfiles_machines_run_ranks(editor, parts, hostfile) -> None:
    job = services.create_training(editor, **parts, settings={"ranks": 4, "hosts": ["mini"]})
    assert (job.settings["ranks"], job.settings["hosts"]) == (4, ["mini"])
    with pytest.raises(Invalid) as error:
        services.create_training(editor, **parts, settings={"ranks": 4, "hosts": ["mini; rm -r x", "-o"]})
    assert codes(error) == {"config.string_pattern_mismatch"}
    hostfile.write_text("[")
    with pytest.raises(Invalid) as error:
        services.create_training(editor, **parts, settings={"ranks": 2, "hosts": ["mini"]})
    assert codes(error) == {"hosts.file"}


def test_an_adapter_is_no_base(editor, parts) -> None:
    ModelVersion.objects.update(kind="adapter")
    with pytest.raises(Invalid) as error:
        services.create_training(editor, **parts)
    assert codes(error) == {"model.not_trainable"}


def test_a_doubled_key_returns_the_first_job(editor, parts) -> None:
    first = services.create_training(editor, **parts, idempotency_key="k")
    assert services.create_training(editor, **parts, idempotency_key="k", name="other").pk == first.pk
    assert Job.objects.count() == 1


def test_keys_belong_to_people(editor, parts) -> None:
    services.create_training(editor, **parts, idempotency_key="k")
    services.create_training(make_user("other", Role.EDITOR), **parts, idempotency_key="k")
    assert Job.objects.count() == 2


def test_a_viewer_may_not_start(parts) -> None:
    with pytest.raises(Forbidden):
        services.create_training(make_user("vi", Role.VIEWER), **parts)


def test_a_full_queue_refuses(editor, parts, monkeypatch) -> None:
    monkeypatch.setattr(queue, "env", lambda: env().model_copy(update={"max_queued": 1}))
    services.create_training(editor, **parts)
    with pytest.raises(TooMuch, match="1 jobs are waiting"):
        services.create_training(editor, **parts)


def test_a_full_disk_refuses(editor, parts, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "free_bytes", lambda: 0)
    with pytest.raises(TooMuch) as error:
        services.create_training(editor, **parts)
    assert error.value.code == "disk.reserve"


@pytest.mark.parametrize("ask", [services.request_stop, services.request_pause, services.request_kill])
def test_a_queued_job_ends_at_once(editor, ask) -> None:
    job = ask(editor, make_job())
    assert (job.state, job.reason) == (JobState.STOPPED, "cancelled")
    assert job.ended_at is not None


@pytest.mark.parametrize("word", ["stop", "pause", "kill"])
def test_a_running_job_is_only_asked(editor, word) -> None:
    job = force(make_job(), JobState.RUNNING)
    asked = getattr(services, f"request_{word}")(editor, job)
    assert asked.state == JobState.RUNNING
    first = getattr(asked, f"{word}_requested_at")
    assert first is not None
    assert getattr(services.__dict__[f"request_{word}"](editor, job), f"{word}_requested_at") == first


def test_an_ended_job_cannot_be_stopped(editor) -> None:
    with pytest.raises(Conflict) as error:
        services.request_stop(editor, force(make_job(), JobState.SUCCEEDED))
    assert error.value.code == "job.not_running"


def test_resume_queues_again_and_clears_the_request(editor) -> None:
    job = services.request_stop(editor, force(make_job(), JobState.RUNNING))
    job = services.resume(editor, force(job, JobState.STOPPED))
    assert (job.state, job.stop_requested_at, job.reason) == (JobState.QUEUED, None, "")


def test_succeeded_never_reopens(editor) -> None:
    with pytest.raises(Conflict) as error:
        services.resume(editor, force(make_job(), JobState.SUCCEEDED))
    assert "Clone" in error.value.hint


def test_change_leaves_a_trace(editor) -> None:
    job = services.change(editor, make_job(), name=" new ", priority=5)
    assert (job.name, job.priority) == ("new", 5)
    assert AuditEvent.objects.get(action="job.change").detail["changed"] == ["name", "priority"]


def test_an_empty_name_is_refused(editor) -> None:
    with pytest.raises(Invalid):
        services.rename(editor, make_job(), "  ")


def test_delete_and_restore(editor) -> None:
    job = services.delete(editor, make_job())
    assert job.state == JobState.STOPPED
    assert not Job.objects.present().exists()
    assert services.restore(editor, job).deleted_at is None


def test_a_running_job_is_not_deleted(editor) -> None:
    with pytest.raises(Conflict):
        services.delete(editor, force(make_job(), JobState.RUNNING))


def test_a_clone_asks_for_the_same(editor, parts) -> None:
    job = services.create_training(editor, **parts, settings={"iters": 3})
    twin = services.create_training(editor, **services.clone_settings(job))
    assert (twin.settings, twin.parent) == (job.settings, job)


def test_an_upload_becomes_an_import(editor) -> None:
    upload = services.save_upload(editor, SimpleUploadedFile("rows.jsonl", b'{"text": "a"}\n'))
    job = services.create_dataset_import(editor, {"kind": "file", "upload": upload}, options={"valid_share": 0.1})
    assert job.settings["source"]["path"] == str(uploads.find(upload))
    assert (job.settings["name"], job.settings["valid_share"], job.resource) == ("rows", 0.1, "cpu")


def test_python_docs_need_no_path(editor) -> None:
    assert services.create_dataset_import(editor, {"kind": "python_docs"}).settings["name"] == "Python docs"


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a\x00b", "/tmp/../etc", ""])
def test_paths_outside_the_roots_are_refused(editor, path) -> None:
    with pytest.raises(Invalid) as error:
        services.create_dataset_import(editor, {"kind": "file", "path": path})
    assert "path.not_allowed" in codes(error)


def test_a_link_out_of_a_folder_is_refused(editor, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "env", lambda: env().model_copy(update={"import_roots": str(tmp_path)}))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").symlink_to("/etc/hostname")
    with pytest.raises(Invalid) as error:
        services.create_model_import(editor, {"kind": "folder", "path": str(tmp_path / "model")})
    assert codes(error) == {"path.not_allowed"}


def test_import_options_are_checked(editor) -> None:
    with pytest.raises(Invalid) as error:
        services.create_dataset_import(editor, {"kind": "python_docs"}, options={"valid_share": 3, "foo": 1})
    assert codes(error) == {"config.less_than", "config.unknown"}


@pytest.mark.parametrize("name", ["x.pkl", "x.bin", "x.py", "../../x.zip", ""])
def test_only_known_kinds_of_files_are_kept(editor, name) -> None:
    with pytest.raises(Invalid):
        services.save_upload(editor, SimpleUploadedFile(name or " ", b"x"))


def test_a_file_name_is_only_a_name(editor) -> None:
    class File:
        name, size = "../../etc/p.jsonl", 1

        def chunks(self):
            yield b"x"

    path = uploads.find(services.save_upload(editor, File()))
    assert path.name == "p.jsonl"
    assert path.parent.parent == env().folder("uploads")


def test_a_large_upload_leaves_nothing(editor, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "env", lambda: env().model_copy(update={"max_upload_mb": 1}))
    before = set(env().folder("uploads").iterdir())
    file = SimpleUploadedFile("x.jsonl", b"x" * (1 << 20) + b"x")
    file.size = 1  # a liar
    with pytest.raises(TooMuch):
        services.save_upload(editor, file)
    assert set(env().folder("uploads").iterdir()) == before
