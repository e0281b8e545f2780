"""``kill -9`` of each process in mid-stage and at a stage's end: the pipeline ends as an undisturbed one does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal

import pytest

from tests.chaos.house import SETTINGS, House

pytestmark = pytest.mark.chaos
ITERS = 20
SHORT = {**SETTINGS, "iters": ITERS, "save_every": 5, "steps_per_eval": 10}
STAGES = ("sft", "more")
#: Starts a run on rows of its own, which are the same ones in another folder: nothing of an earlier run is taken.
START = """
import json, sys, django
django.setup()
from django.contrib.auth.models import User
from mlxplatform.core.access import Role, make_user
from pipelines import services
from registry.models import ModelVersion, RegisteredModel
from registry.services import hashes
from training.models import Dataset, DatasetVersion
folder, asked = sys.argv[1], json.loads(sys.argv[2])
user = User.objects.filter(username="ed").first() or make_user("ed", Role.EDITOR)
model, _ = RegisteredModel.objects.get_or_create(name="tiny")
version, new = ModelVersion.objects.get_or_create(model=model, n=1, kind="base", path="models/tiny", model_type="llama")
ModelVersion.objects.filter(pk=version.pk).update(files=hashes(version.folder))
data = Dataset.objects.create(name=folder)
rows = DatasetVersion.objects.create(dataset=data, n=1, sha256=folder, data_format="chat", rows_train=40, rows_valid=6)
pipeline = services.create(user, services.checked({
    "name": folder,
    "inputs": {"model": {"type": "model"}, "data": {"type": "dataset"}},
    "steps": [
        {"name": "sft", "kind": "train", "uses": {"model": "inputs.model", "data": "inputs.data"}, "settings": asked},
        {"name": "gate", "kind": "gate", "uses": {"metrics": "sft.metrics"}, "settings": {"condition": "val_loss < 9"}},
        {"name": "more", "kind": "train", "uses": {"model": "sft.model", "data": "inputs.data"}, "after": ["gate"],
         "settings": {**asked, "seed": 7}},
    ],
}))
print(services.start(user, pipeline, {"model": str(version.pk), "data": str(rows.pk)}).pk.hex)
"""


class Run:
    """A run of two trainings with a gate between them."""

    def __init__(self, house: House, name: str) -> None:
        self.house = house
        shutil.copytree(house.home / "datasets" / "rows", house.home / "datasets" / name)
        self.key = house.python("-c", START, name, json.dumps(SHORT))

    def state(self) -> str:
        return self.house.query("SELECT state FROM pipelines_pipelinerun WHERE id=?", self.key)[0][0]

    def job(self, stage: str) -> str:
        """The id of the stage's job, once there is one."""
        sql = "SELECT job_id FROM pipelines_steprun WHERE run_id=? AND name=? AND job_id IS NOT NULL"
        self.house.wait(lambda: self.house.query(sql, self.key, stage), 60)
        return self.house.query(sql, self.key, stage)[0][0]

    def wait_end(self) -> None:
        self.house.wait(lambda: self.state() not in {"running", "paused"}, 120)
        about = self.house.query("SELECT name, state, message FROM pipelines_steprun WHERE run_id=?", self.key)
        assert self.state() == "succeeded", about

    def weights(self) -> list[str]:
        return [self.house.weights(self.job(stage)) for stage in STAGES]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    place = House(tmp_path_factory.mktemp("house"))
    place.serve()
    yield place
    place.close()


@pytest.fixture(scope="module")
def undisturbed(house) -> list[str]:
    """The weights of both stages when nobody disturbs."""
    run = Run(house, "undisturbed")
    run.wait_end()
    found = run.weights()
    assert found[0] != found[1]
    return found


def strike(house: House, name: str) -> None:
    """Kill it; what nobody else starts again is started."""
    house.kill(name)
    if name == "launcher":
        house.wait(lambda: not house.pids("mlxplatform.web"), 10)
        house.serve()
    if name == "web":
        house.wait(house.answers, 30)


def strike_at_the_end(house: House, name: str, job: str) -> None:
    """As soon as the stage has ended; an engine at its last step, if it has not gone by itself."""
    if name != "engine":
        house.wait_end(job)
        strike(house, name)
        return
    house.wait_step(job, ITERS)
    for pid in house.pids("training.engine"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


#: Who dies in the first stage and who in the second, each in its middle and at its end.
DEATHS = [("worker", "engine"), ("engine", "worker"), ("launcher", "web")]


@pytest.mark.parametrize("names", DEATHS, ids="-".join)
def test_a_pipeline_whose_processes_die(house, undisturbed, names: tuple[str, str]) -> None:
    name = "-".join(names)
    run = Run(house, name)
    for stage, dies in zip(STAGES, names, strict=True):
        job = run.job(stage)
        house.wait_step(job, ITERS // 2)
        strike(house, dies)
        strike_at_the_end(house, dies, job)
    run.wait_end()
    assert run.weights() == undisturbed
    steps = house.query(
        "SELECT name, state, tries, reused_id FROM pipelines_steprun WHERE run_id=? ORDER BY place", run.key
    )
    assert steps == [(step, "succeeded", 0, None) for step in ("sft", "gate", "more")]
    jobs = house.query("SELECT id, state FROM training_job WHERE dataset_version_id IN "
                       "(SELECT id FROM training_datasetversion WHERE sha256=?) ORDER BY number", name)  # fmt: skip
    assert jobs == [(run.job(stage), "succeeded") for stage in STAGES], "one job for each stage"
    for key, _ in jobs:
        assert house.query("SELECT count(*) FROM registry_modelversion WHERE job_id=?", key) == [(1,)]
        assert house.steps(key) == list(range(1, ITERS + 1))
    lost = ["lost" in dict(house.attempts(run.job(stage))) for stage in STAGES]
    assert lost == [dies == "engine" for dies in names], "only a dead engine costs an attempt"
    moves = house.query('SELECT step, "to" FROM pipelines_runevent WHERE run_id=? ORDER BY id', run.key)
    assert len(moves) == len(set(moves)) == 8, "each move once"


def test_nothing_is_left(house, undisturbed) -> None:
    assert house.end() == 0
    assert house.processes() == []
    assert house.query("SELECT count(*) FROM training_deviceslot WHERE job_id IS NOT NULL") == [(0,)]
