from __future__ import annotations

import json

import pytest
from django.conf import settings

from tests.training.runs import make_job
from training.engine.catalog.kinds import KINDS
from training.engine.config.imports import ImportDatasetConfig, ImportModelConfig
from training.engine.config.training import TrainConfig, load
from training.engine.errors import ConfigError
from training.orders import BUILDERS, config, version_id, write_config

pytestmark = pytest.mark.django_db


def test_every_kind_has_a_builder():
    assert set(BUILDERS) == set(KINDS)


def test_a_training_is_what_the_engine_reads():
    job = make_job(settings={"iters": 7, "optimizer": "lion"})
    write_config(job)
    read = load(TrainConfig, job.run_dir.config)
    assert (read.iters, read.optimizer.name, read.data_format) == (7, "lion", "chat")
    assert (read.model, read.data) == (job.model_version.folder, job.dataset_version.folder)


def test_it_is_written_once():
    job = make_job(settings={"iters": 7})
    write_config(job)
    job.settings = {"iters": 8}
    write_config(job)
    assert json.loads(job.run_dir.config.read_text())["iters"] == 7


def test_all_problems_at_once():
    with pytest.raises(ConfigError) as refusal:
        config(make_job(settings={"iters": 0, "batch_size": "many", "nonsense": 1}))
    assert {problem.loc[0] for problem in refusal.value.problems} == {"iters", "batch_size", "nonsense"}


def test_a_training_without_data_is_refused():
    with pytest.raises(ConfigError, match="no data set"):
        config(make_job(dataset_version=None))


def test_an_import_gets_its_target():
    source = {"kind": "gguf", "path": "/x.gguf"}
    job = make_job(kind="import_model", settings={"name": "x", "source": source})
    write_config(job)
    read = load(ImportModelConfig, job.run_dir.config)
    assert read.target == settings.HOME / "models" / str(version_id(job))


def test_a_data_import_goes_to_the_data_sets():
    job = make_job(kind="import_dataset", settings={"name": "x", "source": {"kind": "python_docs"}, "seed": 5})
    write_config(job)
    read = load(ImportDatasetConfig, job.run_dir.config)
    assert (read.target, read.seed) == (settings.HOME / "datasets", 5)
