from __future__ import annotations

import json

import pytest
from django.db import OperationalError

from mlxplatform.core.errors import Conflict
from tests.training.runs import make_job, points
from training import ingest
from training.dispatch import claim, make_slots
from training.ingest import Tail, clean
from training.models import Attempt, Job

pytestmark = pytest.mark.django_db


@pytest.fixture
def attempt(db):
    make_slots()
    make_job()
    attempt = claim("device")
    attempt.folder.root.mkdir(parents=True)
    return attempt


def write(attempt, *events, raw=b""):
    """Append events, given as (name, fields), to the journal."""
    with open(attempt.folder.journal, "ab") as file:
        for n, (name, fields) in enumerate(events):
            file.write(json.dumps({"v": 1, "n": n, "t": 1000.0 + n, "event": name, **fields}).encode() + b"\n")
        file.write(raw)


def metrics(step, **values):
    return "metrics", {"step": step, "of": 40, "values": values or {"train_loss": 1.0}}


def job_of(attempt) -> Job:
    return Job.objects.get(pk=attempt.job_id)


def payloads(attempt, kind):
    return [event.payload for event in job_of(attempt).events.filter(kind=kind).order_by("seq")]


def test_started_moves_attempt_and_job(attempt):
    write(
        attempt,
        ("started", {"pid": 4711, "process_start": 5.0, "attempt": 1, "fence": 1, "engine": "0.1.0"}),
        ("machine", {"backend": "cpu", "blas": "OpenBLAS", "threads": 2, "deterministic": True}),
    )
    Tail(attempt).drain()
    row = Attempt.objects.get()
    assert (row.state, row.pid, row.pgid, row.process_start, row.backend) == (
        "running",
        4711,
        4711,
        5.0,
        {"engine": "0.1.0", "backend": "cpu", "blas": "OpenBLAS", "threads": 2, "deterministic": True},
    )
    assert job_of(attempt).state == "running"


def test_the_plan_of_memory_and_what_came_of_it_stand_together(attempt):
    write(attempt, ("machine", {"backend": "cpu"}), ("memory", {"total": 100, "fits": True}))
    Tail(attempt).drain()
    attempt.refresh_from_db()
    write(attempt, ("memory", {"planned": 90, "measured": 100, "error": -0.1}))
    Tail(attempt).drain()
    kept = {"total": 100, "fits": True, "planned": 90, "measured": 100, "error": -0.1}
    assert Attempt.objects.get().backend == {"backend": "cpu", "memory_plan": kept}


def test_metrics_become_points_progress_and_events(attempt):
    write(attempt, metrics(1, train_loss=2.0, learning_rate=0.1), metrics(2))
    Tail(attempt).drain()
    job = job_of(attempt)
    assert (job.step, job.total_steps, job.progress) == (2, 40, 0.05)
    assert points(job) == [1, 2]
    assert payloads(attempt, "metric")[0] == {
        "step": 1,
        "values": {"train_loss": 2.0, "learning_rate": 0.1},
        "time": 1000.0,
    }


def test_nan_is_kept_as_nothing(attempt):
    write(attempt, metrics(1, train_loss="nan", grad_norm=True))
    Tail(attempt).drain()
    assert job_of(attempt).metrics.get(name="train_loss").points.get().value is None


def test_a_torn_line_waits_for_its_rest(attempt):
    tail = Tail(attempt)
    write(attempt, metrics(1), raw=b'{"v":1,"n":2,"t":1,"event":"metrics","step":2,')
    tail.drain()
    write(attempt, raw=b'"values":{"train_loss":1}}\n')
    tail.drain()
    assert points(job_of(attempt)) == [1, 2]


def test_rubbish_is_passed_over(attempt):
    write(
        attempt, raw=b"not json\n[1]\n\xff\xfe\n" + b'{"n":1,"t":1,"event":"nobody knows"}\n' + b"[" * 100_000 + b"\n"
    )
    write(
        attempt,
        metrics("x"),
        ("metrics", {"step": 3, "values": [1]}),
        ("sample", {"step": 1, "index": 999}),
        metrics(4),
    )
    Tail(attempt).drain()
    assert points(job_of(attempt)) == [4]


def test_read_twice_is_written_once(attempt):
    write(attempt, metrics(1), metrics(2))
    first, second = Tail(attempt), Tail(attempt)
    assert first.pull()
    with pytest.raises(Conflict):
        second.pull()
    assert points(job_of(attempt)) == [1, 2] and len(payloads(attempt, "metric")) == 2


def test_a_failing_database_loses_and_doubles_nothing(attempt, monkeypatch):
    write(attempt, metrics(1), ("log", {"level": "info", "message": "hello"}))
    tail = Tail(attempt)
    with monkeypatch.context() as patch:
        patch.setattr(ingest.JobEvent.objects, "append", _locked)
        with pytest.raises(OperationalError):
            tail.pull()
    assert not job_of(attempt).metrics.exists()
    tail.drain()
    assert points(job_of(attempt)) == [1] and len(payloads(attempt, "log")) == 1


def _locked(*_, **__):
    raise OperationalError("database is locked")


def test_a_line_that_cannot_be_stored_holds_nothing_up(attempt, monkeypatch):
    def broken(batch, event):
        batch.job.events.create(seq=1, kind="log")  # a seq that is taken: IntegrityError in mid-batch

    monkeypatch.setitem(ingest.HANDLERS, "phase", broken)
    write(attempt, metrics(1), ("phase", {"name": "x"}), metrics(2))
    Tail(attempt).drain()
    assert points(job_of(attempt)) == [1, 2]
    assert payloads(attempt, "log")[-1]["message"].startswith("1 lines of the journal")


NUMBERS = [float("nan"), float("inf"), 10**400, -1, 1.5, True]
WEIRD = [*NUMBERS, None, "", "x" * 10**5, [], {}, [[1]], {"a": {}}, "\ud800", "\x00"]
FIELDS = (
    "step", "values", "of", "index", "text", "prompt", "path", "bytes", "sha256", "name", "done", "total", "pid",
    "backend", "process_start", "message", "level", "result", "problems", "trace", "val_loss", "t", "n",
)  # fmt: skip


@pytest.mark.parametrize("value", WEIRD, ids=range(len(WEIRD)))
def test_no_value_of_any_field_stops_the_tail(attempt, value, caplog):
    for name in ingest.HANDLERS:
        for changed in FIELDS:
            row = {
                "step": 1,
                "values": {"train_loss": value},
                "index": 0,
                "path": "checkpoints/0000001",
                changed: value,
            }
            write(attempt, (name, row))
    write(attempt, metrics(7, val_loss=1.0))
    Tail(attempt).drain()
    assert points(job_of(attempt), "val_loss")[-1] == 7
    assert not [record for record in caplog.records if record.name == "training.ingest"]


def test_checkpoints_best_and_removed(attempt):
    about = {"bytes": 5, "sha256": "ab"}
    write(
        attempt,
        ("evaluated", {"step": 10, "values": {"val_loss": 2.0}}),
        ("checkpoint", {"step": 10, "path": "checkpoints/0000010", **about}),
        ("checkpoint", {"step": 20, "path": "checkpoints/0000020", "val_loss": 3.0, **about}),
        ("checkpoint", {"step": 30, "path": "../../etc", **about}),
        ("removed", {"path": "checkpoints/0000020"}),
    )
    Tail(attempt).drain()
    rows = job_of(attempt).checkpoints.order_by("step")
    assert [(c.step, c.val_loss, c.is_best, c.removed_at is None) for c in rows] == [
        (10, 2.0, True, True),
        (20, 3.0, False, False),
    ]


def test_samples_are_cut_and_replaced(attempt):
    sample = {"step": 5, "index": 0, "prompt": "why?", "tokens": 3, "seconds": 0.5}
    write(attempt, ("sample", {**sample, "text": "x" * 100_000}), ("sample", {**sample, "text": "\x1b[31mred\x00"}))
    Tail(attempt).drain()
    assert job_of(attempt).samples.get().text == "red"


def test_phases(attempt):
    write(attempt, *[("phase", {"name": "download", "done": i, "total": 100}) for i in range(50)])
    write(attempt, ("phase", {"name": "train", "done": 0, "total": 12}))
    Tail(attempt).drain()
    job = job_of(attempt)
    assert (job.phase, job.total_steps) == ("train", 12)
    assert [p["phase"] for p in payloads(attempt, "state") if "phase" in p] == ["download", "train"]


def test_a_flood_of_log_lines_is_cut(attempt):
    write(attempt, *[("log", {"level": "info", "message": str(i)}) for i in range(1000)])
    Tail(attempt).drain()
    lines = payloads(attempt, "log")
    assert len(lines) == ingest.MAX_LOGS + 1 and "800 more lines" in lines[-1]["message"]


def test_finished_keeps_the_result_and_leaves_the_state(attempt):
    write(attempt, ("finished", {"result": {"step": 40, "deep": [[[[[[[[[[1]]]]]]]]]]}}))
    Tail(attempt).drain()
    job = job_of(attempt)
    assert job.result["step"] == 40 and job.state == "starting"


def test_an_engine_that_falls_back_further_cuts_the_curve(attempt):
    job = job_of(attempt)
    curve = ingest.Curves.of(job.pk)
    for step in range(1, 11):
        curve.accept(ingest.Point("train_loss", step, 9.0, 0.0))
    curve.save()
    write(attempt, *[metrics(step, train_loss=1.0) for step in range(6, 13)])
    Tail(attempt).drain()
    values = dict(job.metrics.get().points.values_list("step", "value"))
    assert values == dict.fromkeys(range(1, 6), 9.0) | dict.fromkeys(range(6, 13), 1.0)
    assert payloads(attempt, "truncate") == [{"step": 5}]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("a\rb\x00\x07", "a\nb"),
        ("\ud800", "?"),
        (None, ""),
        ("x" * 99, "x" * 10),
    ],
)
def test_clean(raw, shown):
    assert clean(raw, 10) == shown
