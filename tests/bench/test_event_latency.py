"""From the engine's line in the journal to the committed row, in the worker: the first half of an event's way."""

from __future__ import annotations

import json
import sqlite3
import statistics
import threading
import time

import pytest
from django.db import connection

from tests.training.runs import make_job
from training.dispatch import claim, make_slots
from training.models import Job
from training.process import Engine, Identity, start_time
from training.watch import Watch, watch_lock

pytestmark = pytest.mark.bench
SECONDS, RATE = 20, 20


class Nobody(Engine):
    """An engine that lives as long as the test."""

    def exit(self):
        return None


def test_p99_from_line_to_row(transactional_db, capsys):
    make_slots()
    make_job()
    attempt = claim("device")
    attempt.folder.prepare(1)
    lock = watch_lock(attempt)
    pid = threading.get_native_id()
    watch = Watch(attempt, Nobody(Identity(pid, start_time(pid)), attempt.job.run_dir), lock, lambda _: None)
    watch.start()
    written: dict[int, float] = {}
    writer = threading.Thread(target=_write, args=(attempt.folder.journal, written))
    writer.start()
    seen = _follow(attempt.job_id, SECONDS * RATE)
    writer.join()
    watch.abandon()
    watch.join()
    late = sorted(1000 * (seen[step] - written[step]) for step in written)
    p50, p99 = statistics.median(late), late[int(0.99 * len(late))]
    with capsys.disabled():
        print(f"\njournal to row: p50 {p50:.0f} ms, p99 {p99:.0f} ms, worst {late[-1]:.0f} ms, {len(late)} events")
    assert Job.objects.get().step == SECONDS * RATE
    assert p99 < 60


def _write(path, written):
    with open(path, "ab", buffering=0) as file:
        for step in range(1, SECONDS * RATE + 1):
            row = {"v": 1, "n": step, "t": time.time(), "event": "metrics", "step": step, "values": {"train_loss": 1.0}}
            written[step] = time.monotonic()
            file.write(json.dumps(row).encode() + b"\n")
            time.sleep(1 / RATE)


def _follow(job_id, last):
    """When each step's event could be read by another process."""
    seen: dict[int, float] = {}
    db = sqlite3.connect(connection.settings_dict["NAME"])
    sql = "SELECT payload FROM training_jobevent WHERE job_id=? AND kind='metric' AND seq>? ORDER BY seq"
    top = "SELECT max(seq) FROM training_jobevent WHERE job_id=?"
    cursor = 0
    end = time.monotonic() + 60
    while len(seen) < last and time.monotonic() < end:
        now = time.monotonic()
        newest = db.execute(top, (job_id.hex,)).fetchone()[0] or 0
        for (payload,) in db.execute(sql, (job_id.hex, cursor)):
            seen[json.loads(payload)["step"]] = now
        cursor = newest
        time.sleep(0.002)
    db.close()
    return seen
