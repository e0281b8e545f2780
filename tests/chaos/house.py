"""A dashboard of its own for a chaos test: data folder, tiny model, data set, ``manage.py serve`` as a real process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.fakes import tiny

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "iters": 60,
    "batch_size": 2,
    "grad_accumulation_steps": 2,
    "max_seq_length": 64,
    "learning_rate": 1e-3,
    "save_every": 7,
    "steps_per_eval": 20,
    "sample_tokens": 4,
    "keep_checkpoints": 50,
}
ADD_JOB = """
import json, sys, django
django.setup()
from django.db.models import Max
from registry.models import ModelVersion, RegisteredModel
from training.models import Dataset, DatasetVersion, Job
asked = json.loads(sys.argv[1])
model, _ = RegisteredModel.objects.get_or_create(name="tiny")
version, _ = ModelVersion.objects.get_or_create(model=model, n=1, kind="base", path="models/tiny", model_type="llama")
data, _ = Dataset.objects.get_or_create(name="rows")
rows, _ = DatasetVersion.objects.get_or_create(dataset=data, n=1, sha256="rows", data_format="chat", rows_train=40)
number = (Job.objects.aggregate(top=Max("number"))["top"] or 0) + 1
about = {"number": number, "name": f"chaos {number}", "settings": asked}
print(Job.objects.create(model_version=version, dataset_version=rows, **about).pk)
"""


class House:
    """One installation in ``home``; leave it by :meth:`close`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.launcher: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ, "MLXP_HOME": str(home), "MLXP_PORT": str(self.port), "MLXP_RESERVE_GB": "0",
            "DJANGO_SETTINGS_MODULE": "mlxplatform.settings", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        tiny.make(home / "models" / "tiny")
        _write_rows(home / "datasets" / "rows")
        self.python("manage.py", "migrate", "--verbosity", "0")

    def python(self, *arguments: str) -> str:
        """Run a command in this installation and return what it printed."""
        done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=self.environment, capture_output=True,
                              text=True, timeout=120, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def serve(self) -> None:
        """Start the launcher and wait until the dashboard answers."""
        log = open(self.home / "serve.log", "ab")  # noqa: SIM115 - the child's
        self.launcher = subprocess.Popen([sys.executable, "manage.py", "serve"], cwd=ROOT, env=self.environment,
                                         stdout=log, stderr=log, start_new_session=True)  # fmt: skip
        self.wait(self.answers, 60)

    def answers(self) -> bool:
        """Whether the dashboard is there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def add_job(self, **settings: Any) -> str:
        return self.python("-c", ADD_JOB, json.dumps({**SETTINGS, **settings}))

    def query(self, sql: str, *values: Any) -> list[Any]:
        """Rows of the installation's database."""
        with contextlib.closing(sqlite3.connect(self.home / "db.sqlite3", timeout=20)) as db:
            return db.execute(sql, values).fetchall()

    def job(self, key: str) -> dict[str, Any]:
        names = ("state", "reason", "message", "step", "last_seq")
        row = self.query(f"SELECT {', '.join(names)} FROM training_job WHERE id=?", _hex(key))[0]
        return dict(zip(names, row, strict=True))

    def attempts(self, key: str) -> list[tuple[str, int]]:
        return self.query("SELECT state, pid FROM training_attempt WHERE job_id=? ORDER BY n", _hex(key))

    def steps(self, key: str) -> list[int]:
        sql = ("SELECT p.step FROM training_metricpoint p JOIN training_metric m ON p.metric_id=m.id "
               "WHERE m.job_id=? AND m.name='train_loss' ORDER BY p.step")  # fmt: skip
        return [row[0] for row in self.query(sql, _hex(key))]

    def wait_step(self, key: str, step: int) -> None:
        self.wait(lambda: self.job(key)["step"] >= step, 120)

    def wait_end(self, key: str, state: str = "succeeded") -> None:
        """Until the job has ended; it must have ended in ``state``."""
        self.wait(lambda: self.job(key)["state"] in {"succeeded", "failed", "stopped", "paused"}, 180)
        assert self.job(key)["state"] == state, self.job(key)

    def wait(self, condition: Callable[[], object], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"nothing within {seconds} s\n{self.log()}"
            time.sleep(0.02)

    def weights(self, key: str) -> str:
        """The sha256 of the adapter that the job registered."""
        files = self.query("SELECT files FROM registry_modelversion WHERE job_id=?", _hex(key))
        return json.loads(files[0][0])["adapters.safetensors"]

    def pid(self, name: str) -> int:
        """Of the launcher, its web or worker child, the engine, or the engine's last rank."""
        if name == "launcher":
            assert self.launcher is not None
            return self.launcher.pid
        word = {"web": "mlxplatform.web", "worker": "worker", "engine": "training.engine", "rank": "--captain"}[name]
        self.wait(lambda: self.pids(word), 30)
        return self.pids(word)[-1 if name == "rank" else 0]  # mlx.launch, which is older, has a rank's words, too

    def pids(self, word: str) -> list[int]:
        """Processes of this installation with ``word`` in their command line."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):  # it may end while it is looked at
                found += [process.pid] if word in process.cmdline() else []
        return found

    def processes(self) -> list[psutil.Process]:
        """Every living process of this installation."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get("MLXP_HOME") == str(self.home)
                if mine and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                    found.append(process)
        return found

    def kill(self, name: str) -> int:
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        if name == "launcher" and self.launcher is not None:
            self.launcher.wait()
        return pid

    def end(self) -> int:
        """Ctrl-C; returns the launcher's status."""
        assert self.launcher is not None
        os.kill(self.launcher.pid, signal.SIGINT)
        return self.launcher.wait(timeout=90)

    def log(self) -> str:
        path = self.home / "serve.log"
        return path.read_text()[-4000:] if path.exists() else ""

    def close(self) -> None:
        """End everything; nothing of the installation may be left."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


def _write_rows(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, count in (("train", 40), ("valid", 6)):
        rows = [{"messages": [{"role": "user", "content": f"{name} question {i}"},
                              {"role": "assistant", "content": f"the answer to it is {i * 7 % 11}"}]}
                for i in range(count)]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _hex(key: str) -> str:
    return key.replace("-", "")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
