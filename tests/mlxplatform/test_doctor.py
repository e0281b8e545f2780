from __future__ import annotations

import contextlib
import io
import json
import socket
import sqlite3
from pathlib import Path

import pytest
from django.core.management import call_command

from mlxplatform import doctor

pytestmark = pytest.mark.django_db


def only(findings):
    assert len(findings) == 1
    return findings[0].level, findings[0].message + findings[0].hint


def test_it_reports_everything_as_json():
    out = io.StringIO()
    with contextlib.suppress(SystemExit):  # status 1 where this machine lacks something
        call_command("doctor", "--json", stdout=out)
    rows = json.loads(out.getvalue())
    assert {"python", "packages", "mlx", "disk", "folder", "database", "port", "assets", "worker", "hub"} <= {
        row["check"] for row in rows
    }
    assert all(row["hint"] for row in rows if row["level"] != "ok")


def test_mlx_is_looked_at_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(doctor, "ASK_MLX", "import no_such_mlx")
    level, text = only(doctor._mlx())
    assert level == "broken" and "No module named 'no_such_mlx'" in text and "make install" in text


def test_a_package_of_another_version(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "0.1")
    level, text = only(doctor._packages())
    assert level == "broken" and "django is 0.1, wanted is 5.2.19" in text


def test_a_full_disk(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0})())
    level, text = only(doctor._disk())
    assert level == "broken" and "0.0 GB" in text


def test_a_secret_that_others_can_read(settings):
    path = Path(settings.HOME) / "secret"
    path.chmod(0o644)
    try:
        findings = [finding for finding in doctor._folder() if "secret" in finding.message]
    finally:
        path.chmod(0o600)
    level, text = only(findings)
    assert level == "broken" and "chmod 600" in text


def test_a_damaged_database(settings, tmp_path, monkeypatch):
    path = tmp_path / "db.sqlite3"
    path.write_bytes(b"SQLite format 3\x00" + b"rubbish" * 1000)
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", path)
    level, text = only(doctor._database())
    assert level == "broken" and "backup" in text


def test_a_database_that_somebody_keeps_locked(settings, tmp_path, monkeypatch):
    path = tmp_path / "db.sqlite3"
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", path)
    monkeypatch.setattr(doctor.sqlite3, "connect", _impatient(sqlite3.connect))
    holder = sqlite3.Connection(path, isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    level, text = only(doctor._database())
    holder.close()
    assert level == "broken" and "locked" in text


def _impatient(connect):
    return lambda path, **kwargs: connect(path, **{**kwargs, "timeout": 0.05})


def test_a_taken_port():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        level, text = only(doctor._port(other.getsockname()[1]))
    assert level == "broken" and "--port" in text


def test_a_check_that_fails_is_a_finding(monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: 1 / 0,))
    level, text = only(doctor.examine())
    assert level == "broken" and "ZeroDivisionError" in text
